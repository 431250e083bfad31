package evstream

import (
	"encoding/json"
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

// A join looks at as much as a new stream does, and one stream can join and leave for ever.
func TestWhoHasTheHubSearchForJoinsWaitsForIt(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish **", "backend all **"), func(c *siteConfig) {
			c.broker.ReadRate = Rate{PerSecond: 0.001, Burst: 8} // and so 4,000 looks
		})
		var body strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&body, `{"channel":"many/%d","data":"x"}`+"\n", i)
		}
		mustPost(t, e, "/live/_publish", body.String(), "Content-Type: application/x-ndjson")
		const from = "X-Forwarded-For: 203.0.113.1"
		at := "/live/_sessions/" + sessionIn(t, openStream(t, e, "/live/lobby", from).opening())
		joined := 0
		for ; joined < 4; joined++ { // with what leaves, seven of the eight reads
			name := fmt.Sprintf("%s/channels/many/*%d", at, joined)
			if resp := ask(t, e, request{"PUT", name + "?since=earliest", []string{from}, ""}); resp.StatusCode != 200 {
				wantProblem(t, resp, 429, "read-rate")
				break
			}
			if resp := ask(t, e, request{"DELETE", name, []string{from}, ""}); resp.StatusCode != 200 {
				t.Fatalf("leaving: %d %s", resp.StatusCode, bodyOf(t, resp))
			}
		}
		if joined == 0 || joined == 4 {
			t.Errorf("%d joins are answered", joined)
		}
		var doc struct{ Channels []string }
		if err := json.Unmarshal([]byte(bodyOf(t, ask(t, e, asBackend("GET", at, "")))), &doc); err != nil || len(doc.Channels) != 1 {
			t.Errorf("it reads %q, %v", doc.Channels, err)
		}
		// Others join still.
		const other = "X-Forwarded-For: 198.51.100.7"
		at = "/live/_sessions/" + sessionIn(t, openStream(t, e, "/live/lobby", other).opening())
		if resp := ask(t, e, request{"PUT", at + "/channels/many/*9?since=earliest", []string{other}, ""}); resp.StatusCode != 200 {
			t.Errorf("another one: %d %s", resp.StatusCode, bodyOf(t, resp))
		}
	})
}

// A list of channels looked at all names to find those that its caller may read: with
// 90,000 channels of others, one answer took a quarter of a second.
func TestAListLooksWhereItsCallerMayRead(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets, func(c *siteConfig) {
			c.handler.Bearers = map[string]string{"backend": backendSecret}
			c.handler.Allow = rulesOf("anyone subscribe one two/** way/{user}/**", "user subscribe users/*/news", "backend all **")
			c.broker.ReadRate = Rate{PerSecond: 0.001, Burst: 8} // and so 4,000 looks
		})
		var body strings.Builder
		for _, name := range []string{"one", "one-a", "two", "two!", "two/x/y", "twofold", "way/alice/1", "way/bob/1", "users/7/news"} {
			fmt.Fprintf(&body, `{"channel":%q,"data":"x"}`+"\n", name)
		}
		for i := range 3000 {
			fmt.Fprintf(&body, `{"channel":"users/%d/mail","data":"x"}`+"\n", i)
		}
		mustPost(t, e, "/live/_publish", body.String(), "Content-Type: application/x-ndjson")
		listed := func(query string, header ...string) string {
			t.Helper()
			resp := ask(t, e, request{"GET", "/live/_channels?" + query, header, ""})
			if resp.StatusCode != 200 {
				return bodyOf(t, resp)
			}
			var doc struct {
				Channels []struct{ Channel string }
				Next     string
			}
			if err := json.Unmarshal([]byte(bodyOf(t, resp)), &doc); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range doc.Channels {
				names = append(names, c.Channel)
			}
			return strings.Join(names, " ") + " > " + doc.Next
		}
		for query, want := range map[string]string{
			"":                      "one two two/x/y > ",
			"limit=1":               "one > one",
			"limit=2&after=one":     "two two/x/y > ",
			"prefix=two&after=two":  "two/x/y > ",
			"prefix=two/x":          "two/x/y > ",
			"prefix=users":          " > ",
			"after=zzz":             " > ",
			"limit=1&prefix=one-&_": " > ",
		} {
			if got := listed(query); got != want {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		// Who may read some of many is looked for, and waits for it.
		alice := tokenOf(t, "alice")
		for range 2 { // 6,000 names
			if got, want := listed("", alice), "one two two/x/y users/7/news way/alice/1 > "; got != want {
				t.Errorf("alice: %q, want %q", got, want)
			}
		}
		if got := listed("", alice); !strings.Contains(got, ":read-rate") {
			t.Errorf("alice, again: %q", got)
		}
		if got, want := listed("prefix=way/", alice), "way/alice/1 > "; got != want {
			t.Errorf("alice, where she may: %q, want %q", got, want)
		}
		if got, want := listed("prefix=users/&limit=1", tokenOf(t, "bob")), "users/7/news > "; got != want {
			t.Errorf("bob: %q, want %q", got, want)
		}
	})
}
