package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Attacks by reads that are cheap to ask for: the hub looks at much to answer them, and
// everybody else waits meanwhile.

// Each new pattern is filled with what its channels keep, and an event's type is sought
// through them, while publishing waits: with 90,000 channels, one address that polled
// patterns within its rates held every publish up for seconds.
func TestWhoHasTheHubSearchWaitsForIt(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish,state **", "backend all **"), func(c *siteConfig) {
			c.broker.ReadRate = Rate{PerSecond: 0.001, Burst: 8} // and so 4,000 looks
		})
		var body strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&body, `{"channel":"many/%d","data":"x"}`+"\n", i)
		}
		mustPost(t, e, "/live/_publish", body.String(), "Content-Type: application/x-ndjson")
		const pattern, sought = "/live/?poll=1&since=earliest&channel=many/*-%d&channel=many/*.%d", "/live/?poll=1&channel=many/**&last=9&event=none"
		for i, attack := range []string{
			fmt.Sprintf(pattern, 1, 1),
			sought,
			"/live/?poll=1&channel=many/*9&channel=many/*8&channel=many/*7&last_event_id=nobody's",
		} {
			from := fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i+1)
			asked := 0
			for ; asked < 4; asked++ {
				resp := ask(t, e, request{"GET", attack, []string{from}, ""})
				if resp.StatusCode == http.StatusOK {
					attack = strings.NewReplacer("-", "--", ".", "..", "*9", "*:9").Replace(attack) // anew
					continue
				}
				if resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				wantProblem(t, resp, 429, "read-rate")
				break
			}
			if asked == 0 || asked == 4 {
				t.Errorf("%s: %d polls are answered", attack, asked)
				continue
			}
			// A stream is asked to come back, also over what costs nothing.
			resp := ask(t, e, request{"GET", "/live/many/1", []string{from, "Accept: text/event-stream"}, ""})
			if got := bodyOf(t, resp); resp.StatusCode != 200 || !strings.Contains(got, "retry: ") || strings.Contains(got, "evstream.open") {
				t.Errorf("a stream: %d %q", resp.StatusCode, got)
			}
			// It publishes and reads values still.
			if resp := ask(t, e, request{"POST", "/live/many/1", []string{from}, "x"}); resp.StatusCode != 200 {
				t.Errorf("publishing: %d", resp.StatusCode)
			}
		}
		for _, honest := range []string{"X-Forwarded-For: 198.51.100.7", "Authorization: Bearer " + backendSecret} {
			s := openStream(t, e, "/live/?channel=many/*-1&since=earliest", honest)
			s.opened()
			mustPost(t, e, "/live/many/x-1", "on")
			if got := s.event(); !strings.Contains(got, "data: on\n") {
				t.Errorf("%s: %q", honest, got)
			}
		}
		for range 5 { // the operator's own program
			if resp := ask(t, e, asBackend("GET", sought, "")); resp.StatusCode != 200 {
				t.Errorf("the backend: %d %s", resp.StatusCode, bodyOf(t, resp))
			}
		}
		// Readers of the newest, and of channels by name, cost next to nothing.
		for range 6 {
			if resp := ask(t, e, request{"GET", "/live/?poll=1&channel=many/1&channel=many/2&channel=many/*x", []string{"X-Forwarded-For: 198.51.100.8"}, ""}); resp.StatusCode != 200 {
				t.Errorf("a poll: %d %s", resp.StatusCode, bodyOf(t, resp))
			}
		}
	})
}
