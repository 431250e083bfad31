package stream

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// serveValues runs a stream on a broker whose channels have values, and calls
// each before each write.
func serveValues(t *testing.T, o Options, each func(*Session), values ...string) (s *Session, c *client) {
	t.Helper()
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, channel := range values {
		op := broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{Value: []byte(`"` + channel + `"`)}}
		if _, err := b.Publish(context.Background(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = New(b, o); err != nil {
		t.Fatal(err)
	}
	c = &client{header: http.Header{}}
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if err := s.Serve(&eager{c, func() { each(s) }}, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

// A client that is cut before it has its values has no cursor that would keep
// it from getting them the next time.
func TestACursorComesAfterTheValuesThatAreOlder(t *testing.T) {
	const opening = ": evstream\n\nevent: evstream.open\nretry: N\ndata: {\"session\":\"S\",\"channels\":[\"a\",\"b\"],\"last_event_id\":\"\"}\n\n"
	const values = "event: a\ndata: {\"value\":\"a\"}\n\nevent: b\ndata: {\"value\":\"b\"}\n\n"
	const at = "id: ID\nevent: evstream.at\ndata: \n\n"
	both := Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a", "b"}}}
	nothing := func(*Session) {}
	expect := func(t *testing.T, c *client, want string) {
		t.Helper()
		synctest.Wait()
		if got := strings.Join(c.take(), ""); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	bubble(t, "values", func(t *testing.T) {
		s, c := serveValues(t, both, nothing, "a", "b")
		expect(t, c, opening+values+at)
		if s.Delivered() != 2 {
			t.Errorf("%d were delivered, want 2", s.Delivered())
		}
		time.Sleep(15 * time.Second)
		expect(t, c, ":\n\n")
	})
	bubble(t, "none of them", func(t *testing.T) {
		o := both
		o.Subscribe.Types = []string{"goal"}
		_, c := serveValues(t, o, nothing, "a", "b")
		expect(t, c, opening+at)
	})
	bubble(t, "no opening event", func(t *testing.T) {
		o := both
		o.NoOpen = true
		_, c := serveValues(t, o, nothing, "a", "b")
		expect(t, c, ": evstream\n\nretry: N\n\n"+values+at)
	})
	bubble(t, "a gap", func(t *testing.T) {
		o := both
		o.Subscribe.Start.LastEventID = "1-1"
		_, c := serveValues(t, o, nothing, "a", "b")
		expect(t, c, opening+"event: evstream.gap\ndata: {\"reason\":\"restarted\",\"oldest\":null,\"newest\":null}\n\n"+values+at)
	})
	bubble(t, "ended on the way", func(t *testing.T) {
		writes := 0
		s, c := serveValues(t, Options{Subscribe: broker.SubscribeOptions{Channels: []string{"**"}}}, func(s *Session) {
			if writes++; writes == 2 { // the first of the values
				s.Close(ReasonShutdown)
			}
		}, many()...)
		<-s.Done()
		got := strings.Join(c.take(), "")
		if n := strings.Count(got, "data: {\"value\""); n == 0 || n == len(many()) || strings.Contains(got, "id: ") || !strings.HasSuffix(got, "\n\nretry: N\n\n") {
			t.Errorf("%d values, then %q", n, got[max(0, len(got)-100):])
		}
	})
}

// many are more channels than one write tells the values of.
func many() (names []string) {
	for i := range 200 {
		names = append(names, strings.Repeat("x", i+1))
	}
	return names
}
