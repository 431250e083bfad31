package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/sse"
)

func TestOperationsAreCountedByWhatBecomesOfThem(t *testing.T) {
	b, err := New(NewMemory(), DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	event := func(data string) Op {
		return Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}}
	}
	keyed := event("keyed")
	keyed.Key = Key{Key: "k"}
	other := event("other")
	other.Key = keyed.Key
	value := func(v string, c Condition) Op {
		return Op{Kind: KindState, Channel: "v", State: &StateOp{Value: []byte(v), If: c}}
	}
	for _, ops := range [][]Op{
		{event("1"), event("22"), keyed},
		{keyed, other},
		{value("1", Condition{}), value("1", Condition{}), value("2", Condition{Kind: IfNever})},
		{event(strings.Repeat("x", 1<<20)), event("not even this")},
		{{Kind: KindNotice, Channel: "own"}},
		{{Kind: KindClose, Channel: "c"}, {Kind: KindEvent, Channel: "c"}, {Kind: KindClose, Channel: "c"}},
	} {
		_, _ = b.Publish(t.Context(), ops)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = b.Publish(ended, []Op{event("late")})
	s := b.PublishStats()
	want := map[string]uint64{"stored": 5, "repeated": 1, "key_reused": 1, "unchanged": 2, "conflict": 1, "invalid": 2, "closed": 1, "canceled": 1}
	for result, n := range s.Results {
		if n != want[result] {
			t.Errorf("%s are %d, want %d", result, n, want[result])
		}
	}
	if s.Bytes != uint64(len("1")+len("22")+len("keyed")+len("1")) {
		t.Errorf("%d bytes were stored", s.Bytes)
	}
	if count, _ := s.Appends.Cumulative(); count != 6 {
		t.Errorf("the log was asked %d times", count)
	}
}

func TestEachErrorOfALogHasItsResult(t *testing.T) {
	for err, want := range map[error]string{
		ErrFull: "full", ErrUnavailable: "unavailable", ErrLoading: "unavailable", ErrClosed: "unavailable", ErrUncertain: "uncertain",
		fmt.Errorf("%w: %w", ErrUncertain, context.Canceled): "uncertain",
		ErrTooManyKeys: "limit", ErrShareOfValues: "limit", &OpError{Err: ErrTooManyChannels}: "limit", ErrStateFull: "limit",
		ErrContended: "conflict", &OpError{Err: ErrEventTooLarge}: "invalid", errors.New("of no kind"): "other",
		errkind.New("a new kind", "", ""): "other",
	} {
		if got := publishResults[resultOf(err)]; got != want {
			t.Errorf("%v counts as %s, want %s", err, got, want)
		}
	}
}
