package evstream

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/hub"
)

// nextBlock is the next block of a stream, with names in place of ids.
func nextBlock(r *blockReader) string {
	var lines []string
	for line := range strings.Lines(r.next()) {
		if strings.HasPrefix(line, "id: ") && !strings.HasPrefix(line, "id: evstream") {
			line = "id: ID\n"
		}
		lines = append(lines, line)
	}
	return strings.TrimSuffix(strings.Join(lines, ""), "\n")
}

var sessionRules = []string{
	"anyone  subscribe                 public/** match.*",
	"backend subscribe,publish,session public/** match.* rooms/**",
	"guest   session                   rooms/*",
}

func TestAPageChangesWhatItReadsOverOneStream(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules(sessionRules...))
		first := mustPost(t, e, "/live/match.8", "old")
		mustPost(t, e, "/live/match.7", "one")
		s := openStream(t, e, "/live/match.7?last=1")
		id := sessionIn(t, s.opening())
		if got := nextBlock(s); got != "id: ID\ndata: one" {
			t.Fatalf("got %q", got)
		}
		at := "/live/_sessions/" + id + "/channels/"
		resp := ask(t, e, request{"PUT", at + "match.8?last_event_id=" + first, nil, ""})
		if got, want := bodyOf(t, resp), fmt.Sprintf(`{"session":%q,"channel":"match.8","channels":["match.7","match.8"]}`, id); resp.StatusCode != 200 || got != want {
			t.Fatalf("%d %s", resp.StatusCode, got)
		}
		if got := nextBlock(s); !strings.HasPrefix(got, "event: evstream.joined\ndata: {\"channel\":\"match.8\",\"channels\":[\"match.7\",\"match.8\"],\"last_event_id\":\"") {
			t.Fatalf("got %q", got)
		}
		mustPost(t, e, "/live/match.8", "two")
		if got := nextBlock(s); got != "id: ID\ndata: two" {
			t.Fatalf("got %q", got)
		}
		for _, channel := range []string{"match.7", "match.8", "public/*?since=earliest"} {
			method := map[bool]string{true: "PUT", false: "DELETE"}[strings.HasPrefix(channel, "public")]
			if resp := ask(t, e, request{method, at + channel, nil, ""}); resp.StatusCode != 200 {
				t.Fatalf("%s %s: %d %s", method, channel, resp.StatusCode, bodyOf(t, resp))
			}
		}
		for _, want := range []string{`evstream.left` + "\n" + `data: {"channel":"match.7"`, `evstream.left` + "\n" + `data: {"channel":"match.8"`, `evstream.joined` + "\n" + `data: {"channel":"public/*"`} {
			if got := nextBlock(s); !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		mustPost(t, e, "/live/match.8", "not for it")
		mustPost(t, e, "/live/public/x", "three")
		if got := nextBlock(s); got != "id: ID\ndata: three" {
			t.Errorf("got %q", got)
		}
		var doc hub.SessionInfo
		// An event is counted when the write that the client has read from has returned.
		eventually(t, "three events are counted", func() bool {
			if err := json.Unmarshal([]byte(bodyOf(t, ask(t, e, request{"GET", "/live/_sessions/" + id, nil, ""}))), &doc); err != nil {
				t.Fatal(err)
			}
			return doc.Events == 3
		})
		if got := fmt.Sprintf("%v %v %s %d", doc.Channels, doc.Joined, doc.Protocol, doc.Lag); got != "[public/*] [public/*] HTTP/1 0" || doc.Session != id {
			t.Errorf("described as %+v", doc)
		}
	})
}

func TestASessionIsEndedAndSentTo(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules(sessionRules...))
		s := openStream(t, e, "/live/match.7")
		id := sessionIn(t, s.opening())
		other := openStream(t, e, "/live/match.7")
		other.opening()
		if resp := ask(t, e, asBackend("POST", "/live/_sessions/"+id+"?event=hello&retry=2000", "a\nb")); resp.StatusCode != 204 {
			t.Fatalf("%d %s", resp.StatusCode, bodyOf(t, resp))
		}
		if got := nextBlock(s); got != "event: hello\nretry: 2000\ndata: a\ndata: b" {
			t.Errorf("got %q", got)
		}
		if resp := ask(t, e, asBackend("DELETE", "/live/_sessions/"+id+"?reason="+url.QueryEscape("logged out"), "")); resp.StatusCode != 204 {
			t.Fatalf("%d %s", resp.StatusCode, bodyOf(t, resp))
		}
		if got := nextBlock(s); got != "id: evstream.end\nevent: end\ndata: {\"reason\":\"logged out\"}" {
			t.Errorf("got %q", got)
		}
		if resp := ask(t, e, request{"GET", "/live/match.7", []string{"Last-Event-ID: evstream.end"}, ""}); resp.StatusCode != 204 {
			t.Errorf("it comes back: %d", resp.StatusCode)
		}
		mustPost(t, e, "/live/match.7", "to the other")
		if got := nextBlock(other); got != "id: ID\ndata: to the other" {
			t.Errorf("the other got %q", got)
		}
		eventually(t, "the session to be gone", func() bool {
			return ask(t, e, asBackend("GET", "/live/_sessions/"+id, "")).StatusCode == 404
		})
	})
}

func TestWhoMayUseASession(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules(sessionRules...), func(c *siteConfig) { c.admin = true })
		s := openStream(t, e, "/live/match.7", "Authorization: Bearer "+backendSecret)
		id := sessionIn(t, s.opening())
		guest := func(method, path, body string) request {
			return request{method, path, []string{"Authorization: Bearer " + guestSecret}, body}
		}
		anyone := func(method, path, body string) request { return request{method, path, nil, body} }
		at := "/live/_sessions/" + id
		for _, tt := range []struct {
			name   string
			r      request
			status int
			kind   string
		}{
			{"anyone sees it", anyone("GET", at, ""), 401, "unauthorized"},
			{"anyone ends it", anyone("DELETE", at, ""), 401, "unauthorized"},
			{"anyone joins it to what anyone reads", anyone("PUT", at+"/channels/match.8", ""), 401, "unauthorized"},
			{"anyone lists", anyone("GET", "/live/_sessions", ""), 401, "unauthorized"},
			{"a guest sees it", guest("GET", at, ""), 403, "forbidden"},
			{"a guest sends to it", guest("POST", at, "x"), 403, "forbidden"},
			{"a guest joins it to what guests may", guest("PUT", at+"/channels/rooms/1", ""), 200, ""},
			{"a guest joins it to another", guest("PUT", at+"/channels/match.8", ""), 403, "forbidden"},
			{"a guest has it leave", guest("DELETE", at+"/channels/match.7", ""), 403, "forbidden"},
			{"its reader joins what it may not read", asBackend("PUT", at+"/channels/secret", ""), 403, "forbidden"},
			{"its reader leaves what it does not read", asBackend("DELETE", at+"/channels/match.9", ""), 404, "not-found"},
			{"a session that there is not", asBackend("GET", at[:len(at)-4]+"AAAA", ""), 404, "no-session"},
			{"what can be no session", asBackend("GET", "/live/_sessions/x", ""), 404, "no-session"},
			{"what a session does not have", asBackend("GET", at+"/events", ""), 404, "not-found"},
			{"a method that it does not have", asBackend("PATCH", at, ""), 405, "bad-method"},
			{"a method that its channels do not have", asBackend("POST", at+"/channels/a", ""), 405, "bad-method"},
			{"a method that the list does not have", asBackend("POST", "/live/_sessions", ""), 405, "bad-method"},
			{"a name that cannot be", asBackend("PUT", at+"/channels/a*b**", ""), 400, "bad-channel"},
			{"all beneath a name", asBackend("PUT", at+"/channels/rooms/", ""), 400, "bad-channel"},
			{"a start that cannot be", asBackend("PUT", at+"/channels/rooms/1?since=yesterday", ""), 400, "bad-parameter"},
			{"a parameter that is none", asBackend("PUT", at+"/channels/rooms/1?id=7", ""), 400, "bad-parameter"},
			{"a reason with a line end", asBackend("DELETE", at+"?reason=a%0Ab", ""), 400, "bad-parameter"},
			{"an id", asBackend("POST", at+"?id=7", "x"), 400, "bad-parameter"},
			{"an idempotency key", asBackend("POST", at, "x", "Idempotency-Key: k"), 400, "bad-key"},
			{"the hub's own type", asBackend("POST", at+"?event=evstream.open", "x"), 400, "bad-event"},
			{"too large an event", asBackend("POST", at, strings.Repeat("x", hub.MaxSessionEvent+1)), 413, "too-large"},
			{"a limit that cannot be", asBackend("GET", "/live/_sessions?limit=0", ""), 400, "bad-parameter"},
		} {
			before := e.hub.Session(id).Stream.Channels()
			resp := ask(t, e, tt.r)
			if tt.status == 200 {
				if body := bodyOf(t, resp); resp.StatusCode != 200 {
					t.Errorf("%s: %d %s", tt.name, resp.StatusCode, body)
				}
				continue
			}
			t.Run(tt.name, func(t *testing.T) { wantProblem(t, resp, tt.status, tt.kind) })
			if after := e.hub.Session(id).Stream.Channels(); !slices.Equal(before, after) {
				t.Errorf("%s: it reads %q now", tt.name, after)
			}
		}
		if got, want := e.hub.Session(id).Stream.Channels(), []string{"match.7", "rooms/1"}; !slices.Equal(got, want) {
			t.Errorf("it reads %q", got)
		}
		if resp := ask(t, e, request{"OPTIONS", at, nil, ""}); resp.Header.Get("Allow") != "GET, HEAD, POST, DELETE, OPTIONS" {
			t.Errorf("OPTIONS: %q", resp.Header.Get("Allow"))
		}
	})
}

func TestSessionsAreListed(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules(sessionRules...))
		var all []string
		for range 5 {
			all = append(all, sessionIn(t, openStream(t, e, "/live/match.7").opening()))
		}
		hidden := sessionIn(t, openStream(t, e, "/live/public/x", "Authorization: Bearer "+backendSecret).opening())
		slices.Sort(all)
		page := func(path string) (ids []string, next string) {
			var doc hub.SessionPage
			resp := ask(t, e, asBackend("GET", path, ""))
			if body := bodyOf(t, resp); json.Unmarshal([]byte(body), &doc) != nil || resp.StatusCode != 200 {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			for _, s := range doc.Sessions {
				ids = append(ids, s.Session)
			}
			return ids, doc.Next
		}
		var got []string
		for after, pages := "", 0; ; pages++ {
			ids, next := page("/live/_sessions?channel=match.*&limit=2&after=" + after)
			got = append(got, ids...)
			if after = next; after == "" || pages > 3 {
				break
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("got %q, want %q", got, all)
		}
		if ids, _ := page("/live/_sessions?channel=public/x"); !slices.Equal(ids, []string{hidden}) {
			t.Errorf("got %q", ids)
		}
		if ids, _ := page("/live/_sessions?user=alice"); len(ids) > 0 {
			t.Errorf("alice has %q", ids)
		}
	})
}

// A session that has left everything may have read anything.
func TestASessionThatReadsNothingIsForWhoMayUseAll(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules(sessionRules...))
		s := openStream(t, e, "/live/match.7")
		id := sessionIn(t, s.opening())
		at := "/live/_sessions/" + id
		resp := ask(t, e, request{"DELETE", at + "/channels/match.7", nil, ""})
		if got, want := bodyOf(t, resp), fmt.Sprintf(`{"session":%q,"channel":"match.7","channels":[]}`, id); resp.StatusCode != 200 || got != want {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
		for method, path := range map[string]string{"GET": at, "DELETE": at, "POST": at} {
			if resp := ask(t, e, asBackend(method, path, "x")); resp.StatusCode != 403 {
				t.Errorf("%s: %d %s", method, resp.StatusCode, bodyOf(t, resp))
			}
		}
	})
}
