package hooks

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

// The answers of a real HTTP server: a redirect is not followed, but tried again, as 500 is
// and a connection that is cut; one session that is answered slowly holds up no other one; and
// after 410 nothing is sent.
func TestAnswersOfARealServer(t *testing.T) {
	var mu sync.Mutex
	var got []string // by the session, and what it was answered
	slow, asked := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e struct{ Data struct{ Session string } }
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		session := e.Data.Session
		mu.Lock()
		first := !slices.Contains(got, session+r.URL.Path)
		got = append(got, session+r.URL.Path)
		mu.Unlock()
		switch {
		case session == "slow":
			close(asked)
			<-slow
		case session == "gone":
			w.WriteHeader(http.StatusGone)
		case !first:
		case session == "redirected":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case session == "failing":
			w.WriteHeader(http.StatusInternalServerError)
		case session == "cut":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	h, err := hub.Open(broker.NewMemory(), hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	k := Open(h, Options{})
	defer k.Close()
	if err := k.SetConfig(Config{Hooks: []Hook{{URL: server.URL + "/hooks", Events: []string{Connected}}}}); err != nil {
		t.Fatal(err)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		looks, patience := time.NewTicker(5*time.Millisecond), time.After(30*time.Second)
		defer looks.Stop()
		for !ok() {
			select {
			case <-looks.C:
			case <-patience:
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	times := func(session string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range got {
			if s == session+"/hooks" {
				n++
			}
		}
		return n
	}
	k.Connected(session("slow"))
	<-asked
	for _, name := range []string{"redirected", "failing", "cut", "plain"} {
		k.Connected(session(name))
	}
	until("each to be tried beside the slow one", func() bool {
		return times("redirected") == 1 && times("failing") == 1 && times("cut") == 1 && k.Stats().Sent == 1
	})
	close(slow)
	// At an exit what waits for its next attempt is sent at once.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	k.Flush(ctx)
	if s := k.Stats(); s.Sent != 5 || s.Queued != 0 {
		t.Errorf("the numbers are %+v", s)
	}
	dropped(t, k, nil)
	mu.Lock()
	if slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "elsewhere") }) {
		t.Errorf("a redirect was followed: %q", got)
	}
	mu.Unlock()

	k = Open(h, Options{})
	defer k.Close()
	if err := k.SetConfig(Config{Hooks: []Hook{{URL: server.URL + "/hooks", Events: []string{Connected}}}}); err != nil {
		t.Fatal(err)
	}
	k.Connected(session("gone"))
	until("410", func() bool { return k.Stats().Dropped[DroppedGone] == 1 })
	k.Connected(session("late"))
	dropped(t, k, map[string]uint64{DroppedGone: 2})
	if times("late") != 0 {
		t.Error("an event was sent after 410")
	}
}
