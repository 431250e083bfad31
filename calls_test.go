package evstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// In one process the node of a session is the one that calls, by the same way.
func TestACallIsObeyedAndAnswered(t *testing.T) {
	h := testHub(t, BrokerConfig{})
	l := testLive(t, h, "127.0.0.1")
	alice, bob := caller{user: "alice"}, caller{user: "bob"}
	l.who = alice.kept()
	if err := h.add(l); err != nil {
		t.Fatal(err)
	}
	id := l.session.ID()
	args := func(v any) json.RawMessage {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, tt := range map[string]struct {
		call   call
		answer string
		status int // of the problem that is answered instead
	}{
		"the same caller":    {call{Session: id, Verb: verbSame, Args: args(callerDigest(id, alice))}, "true", 0},
		"another caller":     {call{Session: id, Verb: verbSame, Args: args(callerDigest(id, bob))}, "false", 0},
		"a digest elsewhere": {call{Session: id, Verb: verbSame, Args: args(callerDigest("x", alice))}, "false", 0},
		"no such session":    {call{Session: "none", Verb: verbSame, Args: args("")}, "", http.StatusNotFound},
		"an unknown verb":    {call{Session: id, Verb: "dance", Args: args("")}, "", http.StatusServiceUnavailable},
		"bad arguments":      {call{Session: id, Verb: verbSame, Args: args(7)}, "", http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := h.askNode(t.Context(), &tt.call)
			if tt.status != 0 {
				refusedWith(t, err, tt.status)
			} else if err != nil || string(got) != tt.answer {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			if same, err := h.isSame(t.Context(), id, alice); !same || err != nil {
				t.Errorf("got %t, %v", same, err)
			}
			c := call{Session: id, Verb: verbSame, Args: args(callerDigest(id, alice))}
			if got, err := h.askNode(t.Context(), &c); string(got) != "true" || err != nil {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	calls.Wait()
	h.others.mu.Lock()
	defer h.others.mu.Unlock()
	if len(h.others.open) > 0 {
		t.Errorf("%d calls are open", len(h.others.open))
	}
}

func TestACallThatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHub(t, BrokerConfig{})
		c := call{Session: "none", Verb: verbSame, Args: []byte("7")}
		h.others.mu.Lock()
		h.others.obeying = maxObeyed // it is busy
		h.others.mu.Unlock()
		begun := time.Now()
		if _, err := h.askNode(t.Context(), &c); !errors.Is(err, errNoAnswer) || time.Since(begun) != askPatience {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
		for i := range maxCalls {
			h.others.expect(strconv.Itoa(i))
		}
		_, err := h.askNode(t.Context(), &c)
		refusedWith(t, err, http.StatusServiceUnavailable)
		clear(h.others.open)
		h.others.end()
		if _, err := h.askNode(t.Context(), &c); !errors.Is(err, errNoAnswer) {
			t.Errorf("of a hub that ends: %v", err)
		}
	})
}

// A later version may answer with a problem that this one does not know.
func TestProblemsOfOtherNodes(t *testing.T) {
	for kind := range problemKinds {
		if p := problemNamed(problemKinds[kind].name, "why"); int(p.kind) != kind || p.detail != "why" {
			t.Errorf("%s is %d, %q", problemKinds[kind].name, p.kind, p.detail)
		}
	}
	refusedWith(t, problemNamed("tired", "why"), http.StatusServiceUnavailable)
	if p := problemOf(broker.ErrNoSession); problemKinds[p.kind].name != "no-session" {
		t.Error("a node that has no such session does not say so")
	}
}
