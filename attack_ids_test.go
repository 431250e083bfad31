package evstream

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Who may publish to one channel reaches all that its readers read: an event's id is
// what they come back with, for all of their channels. So an id must come back as it
// is. HTTP trims spaces and tabs and refuses control characters, before any handler.
//
//	an id that is trimmed to another   TestNoIDComesBackAsAnotherOne
//	an id that no request can have     TestNoIDComesBackAsAnotherOne
//	a cursor that only looks like one  TestOnlyTheExactBytesOfAPositionAreOne

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
