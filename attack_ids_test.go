package evstream

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Who may publish to one channel reaches all that its readers read: an event's id is
// what they come back with, for all of their channels. So an id must come back as it
// is. HTTP trims spaces and tabs and refuses control characters, before any handler.
//
//	an id that is trimmed to another   TestNoIDComesBackAsAnotherOne
//	an id that no request can have     TestNoIDComesBackAsAnotherOne
//	a cursor that only looks like one  TestOnlyTheExactBytesOfAPositionAreOne
//	a retry of a day                   TestAPublisherKeepsNoReaderAway
//	others' events purged              TestWhoMayPublishMayNotPurge

// forgedIDs are ids that a client would send back as another one, or not at all.
func forgedIDs(position string) []string {
	ids := []string{
		"evstream.end", " evstream.end", "evstream.end ", "\tevstream.end", " evstream.end\t", "evstream.end\u00a0", "\ufeffevstream.end",
		position, " " + position, position + " ", "\u3000" + position, "0" + position, position + "\t",
		" x", "x ", " ", "\u2003x", "x\u2028", "a\u2028b", "a\u0085b", strings.Repeat("é", 2049),
	}
	for c := range byte(' ') {
		ids = append(ids, "a"+string(rune(c))+"b")
	}
	return append(ids, "a\x7fb", "\x7f", "a\u009fb")
}

func TestNoIDComesBackAsAnotherOne(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		position := mustPost(t, e, "/live/match.7", "first")
		var body strings.Builder
		ids := forgedIDs(position)
		for _, id := range ids {
			wantProblem(t, ask(t, e, asBackend("POST", "/live/match.7?id="+url.QueryEscape(id), "x")), 400, "bad-event")
			item := fmt.Sprintf(`{"channel":"match.7","id":%s}`, quoteJSON(t, id))
			wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", item)), 400, "bad-event")
			wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", item, "Content-Type: application/x-ndjson")), 400, "bad-event")
			if !strings.ContainsAny(id, "\r\n\x00") {
				fmt.Fprintf(&body, "id: %s\ndata: kept\n\n", id)
			}
		}
		for _, none := range []string{"/live/match.7?id=", "/live/match.7?id"} {
			wantProblem(t, ask(t, e, asBackend("POST", none, "x")), 400, "bad-event")
		}
		wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", `{"channel":"match.7","id":""}`)), 400, "bad-event")
		if got := kept(t, e, "match.7"); !slices.Equal(got, []string{":first"}) {
			t.Fatalf("kept %q", got)
		}

		// A stream is republished without them.
		mustPost(t, e, "/live/match.7", body.String()+"id: mine 1-0é\ndata: kept\n\n", "Content-Type: text/event-stream")
		s := openStream(t, e, "/live/match.7?since=earliest")
		s.opened()
		for range strings.Count(body.String(), "\n\n") + 1 {
			if block := s.next(); !idLine.MatchString(block) {
				t.Errorf("the stream has %q", block)
			}
		}
		if block := s.next(); block != "id: mine 1-0é\ndata: kept\n" {
			t.Errorf("the stream has %q", block)
		}
		back := openStream(t, e, "/live/match.7", "Last-Event-ID: mine 1-0é")
		back.opened()
		mustPost(t, e, "/live/match.7", "after")
		if block := back.event(); block != "data: after\n" {
			t.Errorf("who comes back gets %q", block)
		}
	})
}

// A cursor in the query is read as the header is, without spaces around it. Nothing else
// that looks like a position, or like the end, acts as one.
func TestOnlyTheExactBytesOfAPositionAreOne(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		position := mustPost(t, e, "/live/match.7", "first")
		mustPost(t, e, "/live/match.7", "second")
		for _, around := range []string{"%20" + position, position + "%09", "%20%20" + position + "%20"} {
			s := openStream(t, e, "/live/match.7?last_event_id="+around)
			s.opened()
			if block := s.event(); block != "data: second\n" {
				t.Errorf("%q: %q", around, block)
			}
		}
		if resp := ask(t, e, request{method: "GET", path: "/live/match.7?last_event_id=%20evstream.end", header: []string{"Accept: text/event-stream"}}); resp.StatusCode != 204 {
			t.Errorf("the end: %d", resp.StatusCode)
		}
		for _, other := range []string{
			"0" + position, "+" + position, strings.Replace(position, "-", "\u2010", 1), strings.Replace(position, "1", "\uff11", 1),
			position + "\u00a0", "Evstream.end", "evstream.end.", "\uff45vstream.end", "evstream.end\x00",
		} {
			s := openStream(t, e, "/live/match.7?last_event_id="+url.QueryEscape(other))
			if got := s.next() + s.next() + s.next(); !strings.Contains(got, `"reason":"unknown"`) {
				t.Errorf("%q: %q", other, got)
			}
		}
	})
}

// A retry holds for all of a connection.
func TestAPublisherKeepsNoReaderAway(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone publish,subscribe **", "backend all **"), func(c *siteConfig) {
			c.handler.RetryMax = caddy.Duration(4 * time.Second)
			c.admin = true
		})
		post := func(path, body string, header ...string) *http.Response {
			return ask(t, e, request{"POST", "/live/" + path, header, body})
		}
		const ndjson, stream, backend = "Content-Type: application/x-ndjson", "Content-Type: text/event-stream", "Authorization: Bearer " + backendSecret
		for _, ms := range []string{"4001", "86400000", "9999999999999999999999"} {
			for _, resp := range []*http.Response{
				post("a?retry="+ms, "x"),
				post("a?retry="+ms, "x\n", ndjson),
				post("a?retry="+ms, "data: x\n\n", stream),
				post("_publish", `{"channel":"a","retry":`+ms+`}`),
				post("_publish", `[{"channel":"a","retry":`+ms+`}]`),
				post("_publish", `{"channel":"a","retry":`+ms+`}`, ndjson),
			} {
				if doc := wantProblem(t, resp, 400, "bad-event"); !strings.Contains(doc.Detail, "from 1 to 4000 here") {
					t.Errorf("%s: %s", ms, doc.Detail)
				}
			}
		}
		wantProblem(t, post("a?retry=3600001", "x", backend), 400, "bad-event")
		if code, body := send(t, "POST", e.admin+"/a?retry=3600001", "x"); code != 400 {
			t.Errorf("the admin endpoint: %d %s", code, body)
		}
		if got := kept(t, e, "a"); len(got) > 0 {
			t.Fatalf("kept %q", got)
		}

		bodyOf(t, post("a?retry=4000", "1"))
		bodyOf(t, post("a?retry=3600000", "2", backend))
		send(t, "POST", e.admin+"/a?retry=3600000", "3")
		bodyOf(t, post("a", "retry: 86400000\ndata: 4\n\nretry: 86400001\ndata: 5\n\n", stream))
		bodyOf(t, post("a", "retry: 86400000\ndata: 6\n\n", stream, backend))
		s := openStream(t, e, "/live/a?since=earliest")
		s.opened()
		for i, ms := range []int{4000, 3600000, 3600000, 4000, 4000, 3600000} {
			if got, want := s.event(), fmt.Sprintf("retry: %d\ndata: %d\n", ms, i+1); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

func TestWhoMayPublishMayNotPurge(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("guest publish,state,session,subscribe **", "backend purge own/*", "guest purge mine"))
		as := func(secret, path string) *http.Response {
			return ask(t, e, request{"DELETE", path, []string{"Authorization: Bearer " + secret}, ""})
		}
		for _, channel := range []string{"own/a", "mine", "other"} {
			resp := ask(t, e, request{"POST", "/live/" + channel, []string{"Authorization: Bearer " + guestSecret}, "kept"})
			if resp.StatusCode != 200 {
				t.Fatal(bodyOf(t, resp))
			}
		}
		for path, secret := range map[string]string{"/live/own/a?history": guestSecret, "/live/other?history": backendSecret, "/live/mine?history": backendSecret} {
			if doc := wantProblem(t, as(secret, path), 403, "forbidden"); !strings.Contains(doc.Detail, "no permission to purge") {
				t.Errorf("%s: %s", path, doc.Detail)
			}
		}
		for path, secret := range map[string]string{"/live/own/a?history": backendSecret, "/live/mine?history": guestSecret} {
			if resp := as(secret, path); resp.StatusCode != 200 {
				t.Errorf("%s: %s", path, bodyOf(t, resp))
			}
		}
		for channel, want := range map[string]int{"own/a": 0, "mine": 0, "other": 1} {
			if got := kept(t, e, channel); len(got) != want {
				t.Errorf("%s has %q", channel, got)
			}
		}
	})
}

func quoteJSON(t *testing.T, s string) string {
	t.Helper()
	var quoted strings.Builder
	quoted.WriteByte('"')
	for _, r := range s {
		fmt.Fprintf(&quoted, `\u%04x`, r)
	}
	quoted.WriteByte('"')
	return quoted.String()
}
