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
	"github.com/evstream/caddy-evstream/sse"
)

// setValues gives channels values.
func (s *served) setValues(t *testing.T, channels ...string) {
	t.Helper()
	for _, channel := range channels {
		op := broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{Value: []byte(`"` + channel + `"`)}}
		if _, err := s.broker.Publish(context.Background(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
}

// A client gets no cursor before it has all values: if it is cut off earlier, it
// begins again with the values.
func TestACursorComesAfterTheValuesThatAreOlder(t *testing.T) {
	const opening = ": evstream\nevent: evstream.open\nretry: N\ndata: {\"session\":\"S\",\"channels\":[\"a\",\"b\"],\"last_event_id\":\"\",\"values\":[\"a\",\"b\"]}\n\n"
	const values = "event: a\ndata: {\"value\":\"a\"}\n\nevent: b\ndata: {\"value\":\"b\"}\n\n"
	const at = "id: ID\nevent: evstream.at\ndata: {}\n\n"
	both := Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a", "b"}}}
	begin := func(t *testing.T, o Options, want string) *served {
		t.Helper()
		first := serve(t, Options{Subscribe: broker.SubscribeOptions{Channels: []string{"other"}}})
		first.setValues(t, "a", "b")
		s := first.another(t, o)
		synctest.Wait()
		if got := strings.Join(s.take(), ""); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		return s
	}
	bubble(t, "values", func(t *testing.T) {
		s := begin(t, both, opening+values+at)
		if s.Delivered() != 2 {
			t.Errorf("%d were delivered, want 2", s.Delivered())
		}
		time.Sleep(15 * time.Second)
		s.expect(t, ":\n")
		s.Close(ReasonReload)
		s.expect(t, "retry: N\n")
	})
	bubble(t, "none of them", func(t *testing.T) {
		o := both
		o.Subscribe.Types = []string{"goal"}
		begin(t, o, opening+at)
	})
	bubble(t, "no opening event", func(t *testing.T) {
		o := both
		o.NoOpen = true
		begin(t, o, ": evstream\nretry: N\n"+values+at)
	})
	bubble(t, "a gap", func(t *testing.T) {
		o := both
		o.Subscribe.Start.LastEventID = "1-1"
		begin(t, o, opening+"event: evstream.gap\ndata: {\"reason\":\"restarted\",\"oldest\":null,\"newest\":null}\n\n"+values+at)
	})
	synctest.Test(t, func(t *testing.T) { // ended on the way
		first := serve(t, Options{})
		for i := range 200 { // more than one write tells the values of
			first.setValues(t, strings.Repeat("x", i+1))
		}
		s, err := first.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"x*"}}})
		if err != nil {
			t.Fatal(err)
		}
		c, writes := newClient(), 0
		c.before(func() {
			if writes++; writes == 2 { // the first of the values
				s.Close(ReasonShutdown)
			}
		})
		if err := s.Serve(c, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(c.take(), "")
		if n := strings.Count(got, "data: {\"value\""); n == 0 || n == 200 || strings.Contains(got, "id: ") || !strings.HasSuffix(got, "\n\nretry: N\n") {
			t.Errorf("%d values, then %q", n, got[max(0, len(got)-100):])
		}
	})
}

// publishEvent publishes an event and returns its id.
func (s *served) publishEvent(t *testing.T, channel, typ string) string {
	t.Helper()
	op := broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Type: typ, Data: []byte("x")}}
	results, err := s.broker.Publish(context.Background(), []broker.Op{op})
	if err != nil {
		t.Fatal(err)
	}
	return results[0].ID.String()
}

// The read that ends the values may return events, too, which are newer than the
// cursor at which the stream began.
func TestTheCursorAfterTheValuesDoesNotGoBack(t *testing.T) {
	endsAt := func(t *testing.T, frames []string, id string) {
		t.Helper()
		got := strings.Join(frames, "")
		if i := strings.LastIndex(got, "id: "); i < 0 || !strings.HasPrefix(got[i:], "id: "+id+"\n") {
			t.Errorf("the last id is not that of the newest event, %s:\n%s", id, got)
		}
	}
	bubble(t, "a filter that the values do not pass", func(t *testing.T) {
		first := serve(t, Options{Subscribe: broker.SubscribeOptions{Channels: []string{"other"}}})
		first.setValues(t, "a")
		var newest string
		for range 3 {
			newest = first.publishEvent(t, "a", "goal")
		}
		s := first.another(t, Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}, Types: []string{"goal"}, Start: broker.Start{Last: 3}}})
		synctest.Wait()
		endsAt(t, s.flushed(), newest)
	})
	bubble(t, "a value that changes before it is told", func(t *testing.T) {
		first := serve(t, Options{})
		first.setValues(t, "a")
		s, err := first.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		if err != nil {
			t.Fatal(err)
		}
		change := broker.Op{Kind: broker.KindState, Channel: "a", State: &broker.StateOp{Value: []byte("2")}}
		if _, err := first.broker.Publish(context.Background(), []broker.Op{change}); err != nil {
			t.Fatal(err)
		}
		newest := first.publishEvent(t, "a", "")
		c := newClient()
		served := make(chan error, 1)
		go func() { served <- s.Serve(c, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)) }()
		synctest.Wait()
		endsAt(t, c.flushed(), newest)
		s.Close(ReasonShutdown)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// flushed returns what was flushed, with its ids.
func (c *client) flushed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.frames...)
}
