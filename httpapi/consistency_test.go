package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

func TestWhoWantsWhatIsNotOld(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, "no-cache": true, "No-Cache": true, "max-age=0": false, "max-age=0, no-cache": true, "max-age=0,no-cache ,x": true,
		"no-cached": false, "no-store": false,
	} {
		r := &http.Request{Header: http.Header{"Cache-Control": {"max-stale", value}}}
		if got := wantsFresh(r); got != want {
			t.Errorf("%q: %t", value, got)
		}
	}
}

func TestWhereTheLogIsIsNotTold(t *testing.T) {
	why := errors.New("dial tcp 10.0.0.5:6379: connection refused")
	for _, tt := range []struct {
		err    error
		kind   problem.Kind
		detail string
	}{
		{broker.ErrLoading, problem.Unavailable, "the log is being loaded"},
		{broker.ErrUnavailable, problem.Unavailable, "the log is out of reach"},
		{broker.ErrUncertain, problem.Uncertain, "the outcome is unknown"},
		{broker.ErrFull, problem.LogFull, "the disk of the log is full"},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("%w: %w", tt.err, why), &broker.OpError{Err: fmt.Errorf("%w: %w", tt.err, why)}} {
			p := problem.Of(err)
			if p.Kind != tt.kind || p.Detail != tt.detail || p.Status() != tt.kind.Status() || !errors.Is(p, tt.err) {
				t.Errorf("%v is told as %d %q", err, p.Status(), p.Detail)
			}
		}
	}
	// Whose outcome is unknown is not told that nothing was stored.
	if p := problem.Of(fmt.Errorf("%w: %w", broker.ErrUncertain, broker.ErrUnavailable)); p.Kind != problem.Uncertain {
		t.Errorf("it is told as %q", p.Detail)
	}
}
