package broker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

var errLooked = errors.New("looked at too much")

// lookBudget is Looks for a number of names and events.
type lookBudget struct{ left, asked int }

func (l *lookBudget) May() error {
	if l.asked++; l.left <= 0 {
		return errLooked
	}
	return nil
}

func (l *lookBudget) Count(looked int) { l.left -= looked }

// TestWhoFallsBehindAgainAndAgainWaitsForTheLooks: each time that a channel of its pattern
// is purged, a reader that is behind has all channels looked at while publishing waits.
// Nothing bounded how often.
func TestWhoFallsBehindAgainAndAgainWaitsForTheLooks(t *testing.T) {
	for _, step := range []int{1000, 50} {
		t.Run(fmt.Sprintf("step=%d", step), func(t *testing.T) { fallBehindAgainAndAgain(t, step) })
	}
}

func fallBehindAgainAndAgain(t *testing.T, step int) {
	const channels = 300
	b := newBroker(t)
	b.steps.names, b.steps.entries = step, step
	ops := make([]Op, channels)
	for i := range ops {
		ops[i] = Op{Kind: KindEvent, Channel: fmt.Sprintf("many/%03d", i), Event: sse.Event{Data: []byte("x")}}
	}
	publishAll(t, b, ops...)
	looks := &lookBudget{left: 5 * channels}
	sub, err := b.Subscribe(SubscribeOptions{Channels: []string{"many/*"}, Start: Start{Earliest: true}, Looks: looks})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	batch := Batch{Decode: true, Max: 1}
	next := func() (string, error) {
		batch.Max = 1
		err := sub.Read(&batch)
		if batch.Gap != nil {
			t.Errorf("a gap: %+v", batch.Gap)
		}
		if len(batch.Deliveries) == 0 {
			return "", err
		}
		return batch.Deliveries[0].Channel, err
	}
	n, interrupted := 0, 0
	b.steps.between = func() { interrupted++ }
	for refused := false; !refused && n < 10; {
		switch got, err := next(); {
		case errors.Is(err, errLooked):
			refused = true
		case err != nil:
			t.Fatal(err)
		case got != ops[n].Channel:
			t.Fatalf("event %d is of %q, want %q", n, got, ops[n].Channel)
		default:
			n++
		}
		if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: ops[n/2].Channel}}); err != nil {
			t.Fatal(err) // of what was read already: nothing is lost
		}
	}
	if n == 0 || n == 10 {
		t.Fatalf("it was refused after %d events", n)
	}
	if (interrupted > 0) != (step < channels) {
		t.Errorf("falling behind in steps of %d was interrupted %d times", step, interrupted)
	}
	cursor := sub.Cursor()
	if _, err := next(); !errors.Is(err, errLooked) || sub.Cursor() != cursor {
		t.Errorf("again: %v at %s, want no move from %s", err, sub.Cursor(), cursor)
	}
	resumed := subscribe(t, b, Start{LastEventID: cursor.String()}, "many/*") // as who has its own looks left
	looks.left = 10 * channels
	for ; n < channels; n++ {
		if got, err := next(); err != nil || got != ops[n].Channel {
			t.Fatalf("later event %d is of %q (%v), want %q", n, got, err, ops[n].Channel)
		}
	}
	if got, gap := read(t, resumed); gap != nil || len(got) == 0 {
		t.Errorf("resuming where it was refused: %q, %+v", got, gap)
	}
	// What costs nothing is not asked for: a channel that falls off looks at no other.
	asked := looks.asked
	if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: ops[0].Channel}}); err != nil {
		t.Fatal(err)
	}
	if got, err := next(); got != "" || err != nil || looks.asked != asked {
		t.Errorf("who has read all: %q, %v, asked %d times more", got, err, looks.asked-asked)
	}
}
