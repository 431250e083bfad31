package hub

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

// In one process the node of a session is the one that calls, by the same way.
func TestACallIsHandledAndAnswered(t *testing.T) {
	h := testHub(t, Config{})
	s := testSession(t, h, "127.0.0.1")
	alice, bob := &access.Caller{User: "alice"}, &access.Caller{User: "bob"}
	if err := addFor(h, s, alice); err != nil {
		t.Fatal(err)
	}
	id := s.Stream.ID()
	args := func(v any) json.RawMessage {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, tt := range map[string]struct {
		call   nodeCall
		answer string
		status int // of the problem that is answered instead
	}{
		"the same caller":    {nodeCall{Session: id, Verb: verbSame, Args: args(callerDigest(id, alice))}, "true", 0},
		"another caller":     {nodeCall{Session: id, Verb: verbSame, Args: args(callerDigest(id, bob))}, "false", 0},
		"a digest elsewhere": {nodeCall{Session: id, Verb: verbSame, Args: args(callerDigest("x", alice))}, "false", 0},
		"no such session":    {nodeCall{Session: "none", Verb: verbSame, Args: args("")}, "", http.StatusNotFound},
		"an unknown verb":    {nodeCall{Session: id, Verb: "dance", Args: args("")}, "", http.StatusServiceUnavailable},
		"bad arguments":      {nodeCall{Session: id, Verb: verbSame, Args: args(7)}, "", http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := h.callNode(t.Context(), &tt.call)
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
			if same, err := h.IsSame(t.Context(), id, alice); !same || err != nil {
				t.Errorf("got %t, %v", same, err)
			}
			c := nodeCall{Session: id, Verb: verbSame, Args: args(callerDigest(id, alice))}
			if got, err := h.callNode(t.Context(), &c); string(got) != "true" || err != nil {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	calls.Wait()
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	if len(h.cluster.open) > 0 {
		t.Errorf("%d calls are open", len(h.cluster.open))
	}
}

func TestACallThatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHub(t, Config{})
		c := nodeCall{Session: "none", Verb: verbSame, Args: []byte("7")}
		h.cluster.mu.Lock()
		h.cluster.handling = maxHandled // it is busy
		h.cluster.mu.Unlock()
		begun := time.Now()
		if _, err := h.callNode(t.Context(), &c); !errors.Is(err, errNoReply) || time.Since(begun) != callTimeout {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
		for i := range maxCalls {
			h.cluster.addCall(strconv.Itoa(i))
		}
		_, err := h.callNode(t.Context(), &c)
		refusedWith(t, err, http.StatusServiceUnavailable)
		clear(h.cluster.open)
		h.cluster.stop()
		if _, err := h.callNode(t.Context(), &c); !errors.Is(err, errNoReply) {
			t.Errorf("of a hub that ends: %v", err)
		}
	})
}

// A later version may answer with a problem that this one does not know.
func TestProblemsOfOtherNodes(t *testing.T) {
	for _, kind := range problem.Kinds() {
		if p := problemNamed(string(kind), "why"); p.Kind != kind || p.Detail != "why" {
			t.Errorf("%s is %s, %q", kind, p.Kind, p.Detail)
		}
	}
	refusedWith(t, problemNamed("tired", "why"), http.StatusServiceUnavailable)
	if p := problem.Of(broker.ErrNoSession); p.Kind != problem.NoSession {
		t.Error("a node that has no such session does not say so")
	}
}
