package evstream

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// rest is what is left of the body, without the ids, and how it ends.
func (r *blockReader) rest() (string, error) {
	rest, err := io.ReadAll(r.lines)
	return regexp.MustCompile(`(?m)^id: \d+-\d+\n`).ReplaceAllString(string(rest), ""), err
}

func TestARawStreamHasNothingOfTheHubsOwn(t *testing.T) {
	allStreams(t, func(t *testing.T, e *testSite, open func(string, ...string) *blockReader) {
		first := mustPost(t, e, "/live/match.7", "0")
		mustPost(t, e, "/live/match.7", "1")
		r := open("/live/match.7?channel=match.8&raw=1&event=message", "Last-Event-ID: "+first)
		mustPost(t, e, "/live/match.8?close", "2")
		mustPost(t, e, "/live/match.7?event=other", "3")
		mustPost(t, e, "/live/match.7?close&retry=500", "4")
		body, err := r.rest()
		comments := regexp.MustCompile(`(?m)^:.*\n`)
		body = comments.ReplaceAllString(body, "")
		if want := "data: 1\n\ndata: 2\n\nretry: 500\ndata: 4\n\n"; body != want || err != nil {
			t.Errorf("got %q, %v, want %q", body, err, want)
		}
		again := open("/live/match.7?raw=1")
		if body, err := again.rest(); err != nil || comments.ReplaceAllString(body, "") != "" {
			t.Errorf("of what is closed: %q, %v, want no event", body, err)
		}
		resp := ask(t, e, asBackend("GET", "/live/match.7?raw=1", "", "Last-Event-ID: 1763000000000-0"))
		if doc := wantProblem(t, resp, 410, "gap"); !strings.Contains(doc.Detail, "restarted") {
			t.Errorf("a gap: %q", doc.Detail)
		}
		if n := e.hub.Broker().Stats().Subscriptions; n != 0 {
			eventually(t, "the streams", func() bool { return e.hub.Broker().Stats().Subscriptions == 0 })
		}
	})
}

func TestARawStreamIsCutAtAGap(t *testing.T) {
	allStreams(t, func(t *testing.T, e *testSite, open func(string, ...string) *blockReader) {
		r := open("/live/match.7?raw=1")
		eventually(t, "the stream", func() bool { return e.hub.Broker().Stats().Subscriptions == 1 })
		// More than the system and the history hold, while the client reads nothing.
		large := []byte(strings.Repeat("x", 250<<10))
		for range 200 {
			op := broker.Op{Kind: broker.KindEvent, Channel: "match.7"}
			op.Event.Data = large
			if _, err := e.hub.Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
				t.Fatal(err)
			}
		}
		n, err := io.Copy(io.Discard, r.lines)
		if err == nil || n == 0 {
			t.Errorf("the body ended as it should after %d bytes, and events were lost to it", n)
		}
	})
}

func TestARawStreamThatIsTurnedAwayIsAnsweredAStatus(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, func(c *siteConfig) { c.broker.MaxConnections = 1 })
		openStream(t, e, "/live/match.7").opening()
		for path, want := range map[string]int{"/live/match.7": 200, "/live/match.7?raw=1": 503, "/live/match.7?raw=x": 400, "/live/match.7?raw=1&presence=1": 400} {
			resp := ask(t, e, request{"GET", path, []string{"Accept: text/event-stream"}, ""})
			if resp.StatusCode != want {
				t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
			}
		}
		if resp := ask(t, e, asBackend(http.MethodPost, "/live/match.7?raw=1", "x")); resp.StatusCode != 400 {
			t.Errorf("publishing with raw: %s", fmt.Sprint(resp.StatusCode))
		}
	})
}
