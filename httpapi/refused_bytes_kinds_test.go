package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/hub"
)

// What is refused after its bytes were counted costs none in the ways either that do not
// publish through append: a PATCH, and an event to one session.
func TestARefusedPatchOrEventToASessionCostsNoBytes(t *testing.T) {
	const (
		removal = `[{"op":"remove","path":"/a"}]`
		size    = len(removal)
	)
	patch := `{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}`
	for name, refused := range map[string]func(t *testing.T, e *Handler){
		"a condition": func(t *testing.T, e *Handler) {
			resp := hubAnswer(t, e, "PATCH", "/live/v", patch, "Content-Type: "+mergePatch, `If-Match: "1-0"`)
			hubProblem(t, resp, http.StatusPreconditionFailed, "precondition-failed")
		},
		"no value to patch": func(t *testing.T, e *Handler) {
			resp := hubAnswer(t, e, "PATCH", "/live/v", removal, "Content-Type: "+jsonPatch)
			hubProblem(t, resp, http.StatusNotFound, "no-state")
		},
		"a closed channel": func(t *testing.T, e *Handler) {
			if resp := hubAnswer(t, e, "POST", "/live/v?close", ""); resp.StatusCode != http.StatusOK {
				t.Fatalf("%d", resp.StatusCode)
			}
			resp := hubAnswer(t, e, "PATCH", "/live/v", patch, "Content-Type: "+mergePatch)
			hubProblem(t, resp, http.StatusConflict, "closed")
		},
		"no session": func(t *testing.T, e *Handler) {
			resp := hubAnswer(t, e, "POST", "/live/_sessions/MZ3HSEYrlgnGQgSZad0U_Q", strings.Repeat("x", size))
			hubProblem(t, resp, http.StatusNotFound, "no-session")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := hubHandler(t, hubSetup{hub: hub.Config{PublishBytes: hub.Rate{PerSecond: 1, Burst: size}}})
				refused(t, e)
				if resp := hubAnswer(t, e, "POST", "/live/a", strings.Repeat("x", size)); resp.StatusCode != http.StatusOK {
					t.Errorf("%d", resp.StatusCode)
				}
				hubProblem(t, hubAnswer(t, e, "POST", "/live/a", "x"), http.StatusTooManyRequests, "publish-bytes")
			})
		})
	}
}

// What is taken costs its bytes in these ways, too.
func TestAPatchCostsItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := hubHandler(t, hubSetup{hub: hub.Config{PublishBytes: hub.Rate{PerSecond: 1, Burst: 10}}})
		if resp := hubAnswer(t, e, "PATCH", "/live/v", `{"a":1234}`, "Content-Type: "+mergePatch); resp.StatusCode != http.StatusCreated {
			t.Fatalf("%d", resp.StatusCode)
		}
		hubProblem(t, hubAnswer(t, e, "POST", "/live/a", "x"), http.StatusTooManyRequests, "publish-bytes")
	})
}
