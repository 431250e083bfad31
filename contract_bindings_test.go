package evstream

import (
	"strings"
	"testing"
)

// opensSession skips the opening of a stream and returns its session.
func opensSession(t *testing.T, s *blockReader) string {
	t.Helper()
	for {
		block := s.next()
		if _, after, ok := strings.Cut(block, `"session":"`); ok {
			session, _, _ := strings.Cut(after, `"`)
			return session
		}
	}
}

// Two tabs of one user: the value that says that she is there goes with the last.
func TestAValueGoesWithTheLastSessionItIsBoundTo(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish,state **"))
		watcher := openStream(t, e, "/live/room/ada")
		watcher.opened()
		told := func(want string) {
			t.Helper()
			if got := watcher.event(); got != "event: room/ada\ndata: "+want+"\n" {
				t.Fatalf("the watcher is told %q, want %s", got, want)
			}
		}
		first, second := openStream(t, e, "/live/other"), openStream(t, e, "/live/other")
		one, two := opensSession(t, first), opensSession(t, second)
		put := func(query, value string) {
			t.Helper()
			if resp := ask(t, e, request{"PUT", "/live/room/ada" + query, nil, value}); resp.StatusCode/100 != 2 {
				t.Fatalf("%s: %d %s", query, resp.StatusCode, bodyOf(t, resp))
			}
			told(`{"value":` + value + `}`)
		}
		put("?session="+one, "1")
		put("?session="+two, "2")
		first.cancel()
		told(`{"value":2}`) // it is bound to one session less
		second.cancel()
		told(`{"deleted":true}`)

		// A write without a session unbinds it from all.
		first, second = openStream(t, e, "/live/other"), openStream(t, e, "/live/other")
		put("?session="+opensSession(t, first), "1")
		put("?session="+opensSession(t, second), "2")
		put("", "3")
		first.cancel()
		second.cancel()
		if resp := ask(t, e, request{"PATCH", "/live/room/ada?incr=1", nil, ""}); resp.StatusCode != 200 {
			t.Fatalf("got %d %s", resp.StatusCode, bodyOf(t, resp))
		}
		told(`{"value":4}`)
	})
}
