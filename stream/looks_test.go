package stream

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// looksLeft are broker.Looks that may be used up.
type looksLeft struct{ none bool }

func (l *looksLeft) May() error {
	if l.none {
		return errors.New("none are left")
	}
	return nil
}

func (*looksLeft) Count(int) {}

// A stream whose caller may not have the broker look for where it goes on is told to come
// back, with the cursor that it has. It is not given one beyond a gap that it was not told.
func TestAStreamThatMayNotLookGoesOnLater(t *testing.T) {
	for name, tt := range map[string]struct {
		start broker.Start
		told  bool
	}{
		"after some events":             {broker.Start{Earliest: true}, true},
		"before a gap that is not told": {broker.Start{LastEventID: "1-1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			server := NewServer(b)
			defer server.Close()
			do := func(op broker.Op) broker.ID {
				t.Helper()
				r, err := b.Publish(context.Background(), []broker.Op{op})
				if err != nil {
					t.Fatal(err)
				}
				return r[0].ID
			}
			var first broker.ID
			for i, channel := range []string{"a/x", "a/y", "a/z"} {
				event := sse.Event{Data: []byte(strings.Repeat("x", 50_000))} // one fills a batch
				id := do(broker.Op{Kind: broker.KindEvent, Channel: channel, Event: event})
				if i == 0 {
					first = id
				}
			}
			var looks looksLeft
			s, err := server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a/*"}, Start: tt.start, Looks: &looks}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(ReasonClosed)
			batch := broker.Batch{Max: 1}
			next := func() string {
				t.Helper()
				frames, todo := s.next(&batch, 0)
				if todo != stepWrite {
					t.Fatalf("step %d", todo)
				}
				s.written(0)
				return string(frames) + string(batch.Bytes)
			}
			next() // the opening
			if tt.told {
				if got := next(); !strings.HasPrefix(got, "id: "+first.String()+"\n") {
					t.Fatalf("first event: %.60q", got)
				}
			}
			do(broker.Op{Kind: broker.KindPurge, Channel: "a/x"}) // it falls off
			looks.none = true
			if got := next(); !strings.HasPrefix(got, "retry: ") || strings.Contains(got, "id:") {
				t.Errorf("the end: %q, want a reconnect delay and no cursor", got)
			}
			if s.state.endedFor != ReasonSlow {
				t.Errorf("ended for %q, want %q", s.state.endedFor, ReasonSlow)
			}
		})
	}
}
