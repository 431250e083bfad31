package httpapi

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/hub"
)

// What is refused after its bytes were counted costs none: here by a channel that is closed.
func TestWhatIsRefusedCostsNoBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := hubHandler(t, hubSetup{hub: hub.Config{PublishBytes: hub.Rate{PerSecond: 10, Burst: 20}}})
		if resp := hubAnswer(t, e, "POST", "/live/closed?close", ""); resp.StatusCode != 200 {
			t.Fatalf("%d", resp.StatusCode)
		}
		for range 3 {
			hubProblem(t, hubAnswer(t, e, "POST", "/live/closed", strings.Repeat("x", 20)), 409, "closed")
		}
		if resp := hubAnswer(t, e, "POST", "/live/a", strings.Repeat("x", 20)); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
		hubProblem(t, hubAnswer(t, e, "POST", "/live/a", "x"), 429, "publish-bytes")
	})
}
