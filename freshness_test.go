package evstream

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestWhatIsInThisProcessIsNeverStale(t *testing.T) {
	e := newTestEndpoint(t, func(e *endpoint) { e.access = allowAll })
	if resp := ask(t, e, request{method: "PUT", path: "/live/public/v", body: "1"}); resp.StatusCode != 201 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	for _, path := range []string{"/live/public/v", "/live/public/v?info", "/live/_channels", "/live/public/v?poll=1"} {
		resp := ask(t, e, request{"GET", path, []string{"Accept: application/json", "Cache-Control: no-cache"}, ""})
		if _, marked := resp.Header["Evstream-Stale"]; resp.StatusCode != 200 || marked {
			t.Errorf("%s is answered %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}

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
		kind   problemKind
		detail string
	}{
		{broker.ErrLoading, unavailable, "the log is being loaded"},
		{broker.ErrUnavailable, unavailable, "the log is out of reach"},
		{broker.ErrUncertain, uncertain, "the outcome is unknown"},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("%w: %w", tt.err, why), &broker.OpError{Err: fmt.Errorf("%w: %w", tt.err, why)}} {
			p := problemOf(err)
			if p.kind != tt.kind || p.detail != tt.detail || p.status() != 503 || !errors.Is(p, tt.err) {
				t.Errorf("%v is told as %d %q", err, p.status(), p.detail)
			}
		}
	}
	// Whose outcome is unknown is not told that nothing was stored.
	if p := problemOf(fmt.Errorf("%w: %w", broker.ErrUncertain, broker.ErrUnavailable)); p.kind != uncertain {
		t.Errorf("it is told as %q", p.detail)
	}
}
