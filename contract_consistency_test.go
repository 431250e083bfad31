package evstream

import (
	"testing"
)

func TestWhatIsInThisProcessIsNeverStale(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone all **"))
		if resp := ask(t, e, request{method: "PUT", path: "/live/public/v", body: "1"}); resp.StatusCode != 201 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		for _, path := range []string{"/live/public/v", "/live/public/v?info", "/live/_channels", "/live/public/v?poll=1"} {
			resp := ask(t, e, request{"GET", path, []string{"Accept: application/json", "Cache-Control: no-cache"}, ""})
			if _, marked := resp.Header["Evstream-Stale"]; resp.StatusCode != 200 || marked {
				t.Errorf("%s is answered %d %v", path, resp.StatusCode, resp.Header)
			}
		}
	})
}
