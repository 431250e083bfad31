package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// recordingHost takes down whole requests.
type recordingHost struct{ netHost }

func (recordingHost) Record(r *http.Request) any { return r }

// testReload is a configuration that may be replaced by one with a handler.
type testReload struct {
	replaced chan struct{}
	next     *Handler // nil for none
}

func (l *testReload) Replaced() <-chan struct{} { return l.replaced }

func (l *testReload) Successor(_ *Handler, record any, was *access.Caller, judge Judge) (*Handler, *access.Caller, error) {
	if l.next == nil {
		return nil, nil, ErrReplaced
	}
	who, err := judge(l.next, auth.Again(record.(*http.Request), was))
	return l.next, who, err
}

// matching lets those subscribe whom a matcher matches.
func matching(match func(*http.Request) bool) *access.Policy {
	p, err := access.NewPolicy([]access.Rule{{Who: "@some", Do: []string{access.Subscribe}, Channels: []string{"**"}, Match: match}}, nil, false)
	if err != nil {
		panic(err)
	}
	return p
}

// newReload is a handler that anyone may read, and the replacement of its
// configuration by one where a matcher decides.
func newReload(t *testing.T, match func(*http.Request) bool, configure ...func(*testConfig)) (*Handler, *testReload) {
	t.Helper()
	reload := &testReload{replaced: make(chan struct{})}
	old := newTestHandler(t, append(configure, func(c *testConfig) {
		c.Access = matching(func(*http.Request) bool { return true })
		c.Host, c.Reload = recordingHost{}, reload
	})...)
	var err error
	if reload.next, err = New(old.hub, Config{Mount: "/live", Access: matching(match), Host: recordingHost{}, Reload: new(testReload)}); err != nil {
		t.Fatal(err)
	}
	return old, reload
}

// newestOf is a handler of a hub that anyone may read, of a configuration that
// is not replaced.
func newestOf(t *testing.T, h *hub.Hub) *Handler {
	t.Helper()
	e, err := New(h, Config{Mount: "/live", Access: matching(func(*http.Request) bool { return true }), Host: recordingHost{}, Reload: new(testReload)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// reader is somebody who reads a stream, whose handler runs.
type reader struct {
	name    string
	answer  *httptest.ResponseRecorder // to be read when the stream has ended
	session *hub.Session               // nil where there is none
}

// read subscribes as somebody, in a bubble of synctest.
func read(t *testing.T, e *Handler, name string) *reader {
	t.Helper()
	r := &reader{name: name, answer: httptest.NewRecorder()}
	asked := request{"GET", "/live/a", []string{"X-Name: " + name}, ""}.build().WithContext(t.Context())
	go func() {
		if ours, err := e.Serve(r.answer, asked); !ours || err != nil {
			t.Errorf("%s: %t, %v", name, ours, err)
		}
	}()
	synctest.Wait()
	for _, s := range e.hub.Sessions() {
		if ownerOf(e.hub, s).record == any(asked) {
			r.session = s
		}
	}
	return r
}

func ownerOf(h *hub.Hub, s *hub.Session) *owner { return h.Standing(s).Owner.(*owner) }

// ended reports why a stream has ended, "" if it has not.
func (r *reader) ended() stream.Reason {
	select {
	case <-r.session.Stream.Done():
		return r.session.Stream.Reason()
	default:
		return ""
	}
}

func TestAReloadHandsStreamsToTheirSuccessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, reload := newReload(t, func(r *http.Request) bool { return r.Header.Get("X-Name") == "alice" })
		alice, bob := read(t, old, "alice"), read(t, old, "bob")
		other := newestOf(t, old.hub)
		carol := read(t, other, "carol")
		if by := ownerOf(old.hub, alice.session); by.handler != old {
			t.Errorf("alice is served by %p, want %p", by.handler, old)
		}
		before := ownerOf(old.hub, alice.session).record
		close(reload.replaced)
		HandOver(old.hub, reload)
		synctest.Wait()
		if by := ownerOf(old.hub, alice.session); alice.ended() != "" || by.handler != reload.next || by.record != before {
			t.Errorf("alice's stream ended for %q, and is served by %p, want %p", alice.ended(), by.handler, reload.next)
		}
		if bob.ended() != stream.ReasonRefused {
			t.Errorf("bob's stream ended for %q", bob.ended())
		}
		if by := ownerOf(old.hub, carol.session); carol.ended() != "" || by.handler != other {
			t.Error("a stream of another configuration was handed over")
		}
		// Where nobody serves them any more, streams are told to come back.
		last := reload.next.reload.(*testReload)
		HandOver(old.hub, last)
		HandOver(old.hub, other.reload)
		synctest.Wait()
		if alice.ended() != stream.ReasonReload || carol.ended() != stream.ReasonReload {
			t.Errorf("the streams ended for %q and %q", alice.ended(), carol.ended())
		}
	})
}

// A panic where nobody recovers would end the process.
func TestAJudgeThatPanicsRefusesOnlyThatStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, reload := newReload(t, func(r *http.Request) bool {
			if r.Header.Get("X-Name") == "mallory" {
				panic("a matcher on purpose")
			}
			return true
		})
		readers := []*reader{read(t, old, "alice"), read(t, old, "mallory"), read(t, old, "bob")}
		close(reload.replaced)
		HandOver(old.hub, reload)
		synctest.Wait()
		for _, r := range readers {
			want := stream.Reason("")
			if r.name == "mallory" {
				want = stream.ReasonRefused
			}
			if r.ended() != want {
				t.Errorf("the stream of %s ended for %q, want %q", r.name, r.ended(), want)
			}
		}
		op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("after")}}
		if _, err := old.hub.Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, r := range readers {
			r.session.Stream.End()
		}
		synctest.Wait()
		for _, r := range readers {
			if got := strings.Contains(r.answer.Body.String(), "data: after\n"); got != (r.name != "mallory") {
				t.Errorf("%s reads %q", r.name, r.answer.Body)
			}
		}
	})
}

func TestStreamsAreJudgedSideBySide(t *testing.T) {
	for n, want := range map[int]time.Duration{handOvers: time.Second, handOvers + 1: 2 * time.Second} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var judged atomic.Int32
				old, reload := newReload(t, func(*http.Request) bool {
					time.Sleep(time.Second)
					judged.Add(1)
					return true
				})
				for range n {
					read(t, old, "somebody")
				}
				begun := time.Now()
				HandOver(old.hub, reload)
				if took := time.Since(begun); took != want || int(judged.Load()) != n {
					t.Errorf("%d of %d streams were judged in %s, want %s", judged.Load(), n, took, want)
				}
			})
		})
	}
}

func TestAReloadMayEndStreamsOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, reload := newReload(t, func(*http.Request) bool { return true }, func(c *testConfig) { c.Streams.OnReloadDrain = time.Minute })
		r := read(t, old, "alice")
		HandOver(old.hub, reload)
		if by := ownerOf(old.hub, r.session); r.ended() != "" || by.handler != reload.next {
			t.Errorf("the stream ended for %q", r.ended())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r.ended() != stream.ReasonReload {
			t.Errorf("the stream ended for %q", r.ended())
		}
	})
}

// A request may reach a handler whose streams have been handed over already.
func TestAStreamThatBeginsAfterItsConfigurationWasReplacedFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, reload := newReload(t, func(r *http.Request) bool { return r.Header.Get("X-Name") == "alice" })
		old.stream.OnReloadDrain = time.Minute // is for streams that have begun before
		close(reload.replaced)
		HandOver(old.hub, reload)
		alice := read(t, old, "alice")
		if alice.session == nil || ownerOf(old.hub, alice.session).handler != reload.next {
			t.Fatalf("alice got %d %q", alice.answer.Code, alice.answer.Body)
		}
		// The next configuration may have been replaced as well.
		second := reload.next.reload.(*testReload)
		second.replaced, second.next = make(chan struct{}), newestOf(t, old.hub)
		close(second.replaced)
		if alice = read(t, old, "alice"); alice.session == nil || ownerOf(old.hub, alice.session).handler != second.next {
			t.Fatalf("alice got %d %q", alice.answer.Code, alice.answer.Body)
		}
		for name, next := range map[string]*Handler{"bob": reload.next, "carol": nil} { // who may not, and whom nobody serves
			reload.next = next
			r := read(t, old, name)
			if body := r.answer.Body.String(); r.session != nil || r.answer.Code != http.StatusOK || !strings.HasSuffix(body, "\nretry: 2000\n") {
				t.Errorf("%s got %d %q", name, r.answer.Code, body)
			}
		}
		if n := len(old.hub.Sessions()); n != 2 {
			t.Errorf("%d streams are served, want those of alice", n)
		}
	})
}
