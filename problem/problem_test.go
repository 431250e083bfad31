package problem

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

func TestEveryKindHasATitleAndAStatus(t *testing.T) {
	for kind, k := range kinds {
		if kind == "" || k.title == "" || k.status < 400 || k.status > 599 {
			t.Errorf("%q: %+v", kind, k)
		}
	}
	if n := len(Kinds()); n != len(kinds) || n < 38 {
		t.Errorf("%d kinds", n)
	}
}

func TestAnErrorSaysWhichProblemItIs(t *testing.T) {
	full := errkind.New("overloaded", "max_channels", "no room")
	out := errkind.Opaque("unavailable", "log", "the log is out of reach")
	dial := errors.New("dial tcp 10.0.0.5:6379: connection refused")
	for _, tt := range []struct {
		name   string
		err    error
		kind   Kind
		detail string
		reason string
	}{
		{"as it is", full, Overloaded, "no room", "max_channels"},
		{"with what is around it", fmt.Errorf("channel %q: %w", "a", full), Overloaded, `channel "a": no room`, "max_channels"},
		{"an opaque one", fmt.Errorf("reading: %w: %w", out, dial), Unavailable, "the log is out of reach", "log"},
		{"a problem", NotFound.Because("it is not there"), NotFound, "it is not there", ""},
		{"a problem with a cause", Unavailable.Hiding(full, "later"), Unavailable, "later", "max_channels"},
		{"a problem that wraps", TooLarge.Because("%w, in all", full), TooLarge, "no room, in all", "max_channels"},
		{"two", fmt.Errorf("%w: %w", out, full), Unavailable, "the log is out of reach", "log"},
		{"a kind that there is not", errkind.New("tired", "", "x"), Internal, "internal error; see the server's log", ""},
		{"canceled", fmt.Errorf("reading: %w", context.Canceled), Unavailable, "reading: context canceled", ""},
		{"anything else", dial, Internal, "internal error; see the server's log", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Of(tt.err)
			if p.Kind != tt.kind || p.Detail != tt.detail || ReasonOf(tt.err) != tt.reason {
				t.Errorf("got %s, %q, reason %q", p.Kind, p.Detail, ReasonOf(tt.err))
			}
			if !errors.Is(p, tt.err) {
				t.Error("the error is not in the chain of the problem")
			}
		})
	}
}

func TestTheDocument(t *testing.T) {
	pointer, operation := "/a/0", 2
	p := Uncertain.Because("nobody knows <b>")
	p.Pointer, p.Operation = &pointer, &operation
	got, err := p.At(Progress{Published: 3, ID: "5-0", Line: 4}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"urn:evstream:problem:uncertain","title":"The outcome is unknown","status":503,"detail":"nobody knows <b>",` +
		`"outcome":"unknown","published":3,"id":"5-0","line":4,"operation":2,"pointer":"/a/0"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p.Progress != nil {
		t.Error("At changed the problem that it was called on")
	}
}
