package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// readable lets callers join what begins with "open".
func readable(_ *access.Caller, name string) bool { return strings.HasPrefix(name, "open") }

// sessionOf is a stream of a user in the hub.
func sessionOf(t testing.TB, h *Hub, user string) *Session {
	t.Helper()
	s := testSession(t, h, "127.0.0.1")
	if err := h.Add(s, Standing{Caller: &access.Caller{User: user}, MayRead: readable, Owner: "first"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func asker(user string, within ...string) Asker {
	return Asker{Caller: &access.Caller{User: user}, Within: within}
}

func TestASessionIsUsedByItsOwnCallerAndByThoseWhoMay(t *testing.T) {
	h := testHub(t, Config{})
	for _, tt := range []struct {
		name  string
		by    Asker
		joins map[string]string // the verb that a join of the channel is refused for
		all   bool              // it may be seen, ended and sent to
	}{
		{"its own caller", asker("alice"), map[string]string{"open/1": "", "secret/1": access.Subscribe}, true},
		{"another", asker("bob"), map[string]string{"open/1": access.UseSessions}, false},
		{"who may use all", asker("bob", "**"), map[string]string{"open/1": "", "secret/1": ""}, true},
		{"who may use some", asker("bob", "secret/*", "x"), map[string]string{"open/1": access.UseSessions, "secret/1": "", "secret/**": access.UseSessions}, false},
		{"who may use what it reads", asker("bob", "a"), map[string]string{"open/1": access.UseSessions}, true},
		{"its own caller, who may use some", asker("alice", "secret/*"), map[string]string{"open/1": "", "secret/1": "", "other": access.Subscribe}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused := func(err error) string {
				var r *RefusedError
				switch {
				case err == nil:
					return ""
				case !errors.As(err, &r):
					t.Fatal(err)
				}
				refusedWith(t, err, http.StatusForbidden)
				return r.Verb
			}
			s := sessionOf(t, h, "alice")
			id, ctx := s.Stream.ID(), t.Context()
			for name, want := range tt.joins {
				reads, err := h.JoinSession(ctx, id, name, broker.Start{}, tt.by)
				if got := refused(err); got != want {
					t.Errorf("joining %s is refused for %q, want %q", name, got, want)
				}
				if joined := slices.Contains(s.Stream.Channels(), name); joined != (want == "") || joined && !slices.Contains(reads, name) {
					t.Errorf("joined %s: %t, %q", name, joined, reads)
				}
				_, was, err := h.LeaveSession(ctx, id, name, tt.by)
				if leave := refused(err); (leave != "") != (want == access.UseSessions) || was != (want == "") {
					t.Errorf("leaving %s is refused for %q, was read: %t", name, leave, was)
				}
			}
			want := access.UseSessions
			if tt.all {
				want = ""
			}
			info, err := h.DescribeSession(ctx, id, tt.by)
			if got := refused(err); got != want || (info != nil) != tt.all {
				t.Errorf("seeing it is refused for %q", got)
			}
			if got := refused(h.SendTo(ctx, id, &sse.Event{Data: []byte("x")}, tt.by)); got != want {
				t.Errorf("sending to it is refused for %q", got)
			}
			page, err := h.ListSessions(ctx, SessionFilter{User: "alice"}, tt.by)
			if err != nil || (len(page.Sessions) > 0) != (len(tt.by.Within) > 0 && tt.by.Within[0] != "secret/*") {
				t.Errorf("listed %+v, %v", page, err)
			}
			if got := refused(h.EndSession(ctx, id, "", tt.by)); got != want {
				t.Errorf("ending it is refused for %q", got)
			}
			s.Stream.Close(stream.ReasonClient)
			h.Remove(s)
		})
	}
}

func TestWhatCannotBeDoneWithASession(t *testing.T) {
	cfg := broker.DefaultConfig()
	cfg.MaxSubscriptionChannels, cfg.MaxSubscribers = 2, 1
	h := testHub(t, Config{Broker: cfg})
	s := sessionOf(t, h, "alice")
	other, err := h.NewStream(stream.Options{Subscribe: subscription("open/full")})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(stream.ReasonClient)
	id, ctx, by := s.Stream.ID(), t.Context(), asker("alice", "**")
	join := func(id, name string) error {
		_, err := h.JoinSession(ctx, id, name, broker.Start{}, by)
		return err
	}
	big := &sse.Event{Data: []byte(strings.Repeat("x", MaxSessionEvent+1))}
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"nobody's session":   {join("none", "open/1"), http.StatusNotFound},
		"a bad name":         {join(id, "a//b"), http.StatusBadRequest},
		"beneath a name":     {join(id, "open/"), http.StatusBadRequest},
		"a full channel":     {join(id, "open/full"), http.StatusServiceUnavailable},
		"one that is read":   {join(id, "a"), 0},
		"room for one":       {join(id, "open/1"), 0},
		"one too many":       {join(id, "open/2"), http.StatusBadRequest},
		"too large an event": {h.SendTo(ctx, id, big, by), http.StatusRequestEntityTooLarge},
		"an id":              {h.SendTo(ctx, id, &sse.Event{ID: "7"}, by), http.StatusBadRequest},
		"the hub's own type": {h.SendTo(ctx, id, &sse.Event{Type: "evstream.open"}, by), http.StatusBadRequest},
		"to nobody":          {h.SendTo(ctx, "none", &sse.Event{}, by), http.StatusNotFound},
		"an end of nobody":   {h.EndSession(ctx, "none", "", by), http.StatusNotFound},
	} {
		if tt.want == 0 && tt.err != nil || tt.want != 0 && (tt.err == nil || problem.Of(tt.err).Status() != tt.want) {
			t.Errorf("%s: %v, want %d", name, tt.err, tt.want)
		}
	}
	if _, err := h.ListSessions(ctx, SessionFilter{Channel: "a//b"}, by); !errors.Is(err, channel.ErrName) {
		t.Errorf("listing the readers of a bad name: %v", err)
	}
}

func TestASessionIsDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHub(t, Config{})
		s := testSession(t, h, "192.0.2.7")
		s.Protocol = 2
		begun := time.Now()
		if err := h.Add(s, Standing{Caller: &access.Caller{User: "alice"}, MayRead: readable}); err != nil {
			t.Fatal(err)
		}
		defer h.Remove(s)
		if _, err := h.JoinSession(t.Context(), s.Stream.ID(), "open/*", broker.Start{}, asker("alice")); err != nil {
			t.Fatal(err)
		}
		op := broker.Op{Kind: broker.KindEvent, Channel: "open/1", Event: sse.Event{Data: []byte("x")}}
		if _, err := h.Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		got, err := h.DescribeSession(t.Context(), s.Stream.ID(), asker("alice"))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("alice 192.0.2.7 %s HTTP/2 [a open/*] [open/*] 0 3000", begun.UTC())
		if text := fmt.Sprintf("%s %s %s %s %v %v %d %d", got.User, got.Address, got.Since, got.Protocol, got.Channels, got.Joined, got.Events, got.Lag); text != want {
			t.Errorf("got %s, want %s", text, want)
		}
	})
}

// An event of its own takes no more memory than is bounded, and who sends is told.
func TestEventsToOneSessionAreBounded(t *testing.T) {
	h := testHub(t, Config{})
	s := sessionOf(t, h, "alice")
	defer h.Remove(s)
	e := &sse.Event{Data: []byte(strings.Repeat("x", MaxSessionEvent))}
	sent := 0
	for ; ; sent++ {
		err := h.SendTo(t.Context(), s.Stream.ID(), e, asker("alice"))
		if err != nil {
			refusedWith(t, err, http.StatusServiceUnavailable)
			break
		}
		if sent > 10 {
			t.Fatal("it takes any number")
		}
	}
	if sent == 0 {
		t.Error("none was taken")
	}
}

func TestSessionsAreListedByPages(t *testing.T) {
	h := testHub(t, Config{})
	var ids []string
	for i := range 7 {
		s := sessionOf(t, h, fmt.Sprint("u", i%2))
		ids = append(ids, s.Stream.ID())
		defer h.Remove(s)
	}
	slices.Sort(ids)
	var got []string
	f := SessionFilter{Limit: 3}
	for pages := 0; ; pages++ {
		page, err := h.ListSessions(t.Context(), f, asker("x", "**"))
		if err != nil || len(page.Sessions) > 3 || pages > 3 {
			t.Fatal(page, err)
		}
		for _, s := range page.Sessions {
			got = append(got, s.Session)
		}
		if f.After = page.Next; f.After == "" {
			break
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("listed %q, want %q", got, ids)
	}
	for name, tt := range map[string]struct {
		f    SessionFilter
		want int
	}{
		"of a user":            {SessionFilter{User: "u1"}, 3},
		"of a channel":         {SessionFilter{Channel: "a"}, 7},
		"of a pattern":         {SessionFilter{Channel: "*"}, 7},
		"of a channel of none": {SessionFilter{Channel: "b"}, 0},
		"of nobody":            {SessionFilter{User: "nobody"}, 0},
	} {
		if page, err := h.ListSessions(t.Context(), tt.f, asker("x", "**")); err != nil || len(page.Sessions) != tt.want || page.Next != "" {
			t.Errorf("%s: %d, %v", name, len(page.Sessions), err)
		}
	}
}

// The decision about a join is made again if the session's handler is replaced while it
// is made, and what was joined is judged anew.
func TestJoinsAreJudgedByTheHandlerThatServesTheSession(t *testing.T) {
	h := testHub(t, Config{})
	s := sessionOf(t, h, "alice")
	defer h.Remove(s)
	next := Standing{Caller: &access.Caller{User: "alice"}, MayRead: func(*access.Caller, string) bool { return false }, Owner: "second"}
	was := h.Standing(s)
	was.MayRead = func(_ *access.Caller, name string) bool {
		if name == "open/3" && !h.SetStanding(s, "first", next) {
			t.Error("it was not replaced")
		}
		return true
	}
	h.SetStanding(s, "first", was)
	ctx, id := context.Background(), s.Stream.ID()
	for _, name := range []string{"open/1", "open/2"} {
		if _, err := h.JoinSession(ctx, id, name, broker.Start{}, asker("alice")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.JoinSession(ctx, id, "other", broker.Start{}, Asker{Caller: &access.Caller{Name: "backend"}, Within: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	_, err := h.JoinSession(ctx, id, "open/3", broker.Start{}, asker("alice"))
	refusedWith(t, err, http.StatusForbidden)
	if got := h.BeganWith(s); !slices.Equal(got, []string{"a"}) {
		t.Errorf("it began with %q", got)
	}
	h.Rejudge(s, func(name string, by *access.Caller) bool {
		return name == "open/2" && by == nil || name == "other" && by != nil && by.Name == "backend"
	})
	if got := s.Stream.Channels(); !slices.Equal(got, []string{"a", "open/2", "other"}) {
		t.Errorf("it reads %q", got)
	}
}

func TestReadersOfAChannelAreWatched(t *testing.T) {
	h := testHub(t, Config{})
	first := sessionOf(t, h, "alice")
	told := make(chan string, 100)
	stop, err := h.WatchReaders("open/**", func(c ReaderChange) { told <- fmt.Sprint(c.Channel, " ", c.Left) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WatchReaders("a//b", nil); !errors.Is(err, channel.ErrName) {
		t.Errorf("a bad name is watched: %v", err)
	}
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-told:
				if got != w {
					t.Errorf("told %q, want %q", got, w)
				}
			case <-time.After(patience):
				t.Fatalf("not told %q", w)
			}
		}
	}
	ctx, id, by := t.Context(), first.Stream.ID(), asker("alice", "**")
	for _, name := range []string{"open/1", "other", "*/2"} {
		if _, err := h.JoinSession(ctx, id, name, broker.Start{}, by); err != nil {
			t.Fatal(err)
		}
	}
	expect("open/1 false", "*/2 false")
	if _, _, err := h.LeaveSession(ctx, id, "open/1", by); err != nil {
		t.Fatal(err)
	}
	first.Stream.Close(stream.ReasonClient)
	h.Remove(first)
	expect("open/1 true", "*/2 true")
	second := sessionOf(t, h, "bob")
	if _, err := h.JoinSession(ctx, second.Stream.ID(), "open/1", broker.Start{}, by); err != nil {
		t.Fatal(err)
	}
	expect("open/1 false")
	stop()
	stop()
	h.Remove(second)
	if len(told) > 0 {
		t.Errorf("told %q after the end", <-told)
	}
	again, err := h.WatchReaders("**", func(c ReaderChange) { told <- c.Channel })
	if err != nil {
		t.Fatal(err)
	}
	third := sessionOf(t, h, "carol")
	expect("a")
	h.Remove(third)
	expect("a")
	again()
}

func TestAWatcherThatIsTooSlowIsToldOfALoss(t *testing.T) {
	w := &watcher{more: make(chan struct{}, 1)}
	w.pattern, _ = channel.ParsePattern("**")
	for range maxChanges + 10 {
		w.add(ReaderChange{Channel: "a"})
	}
	changes := w.take()
	if n := len(changes); n != maxChanges+1 || !changes[n-1].Lost || changes[n-2].Lost {
		t.Errorf("%d wait, the last is %+v", n, changes[n-1])
	}
}
