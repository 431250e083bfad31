package evstream

import (
	"net/http"
	"strings"
	"testing"
)

// A page that reads channels whose names it does not know listens to one event.
func TestAStreamGivesAllEventsOneName(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct{ query, line string }{
			{"named=0", ""},
			{"named=0&envelope=0", ""},
			{"as=message", ""},
			{"as=any", "event: any\n"},
		} {
			t.Run(tt.query, func(t *testing.T) {
				e := on.start(t, withState, withRules("anyone subscribe,publish,state **"))
				put(t, e, "/live/room/ada", `{"typing":true}`)
				s := openStream(t, e, "/live/?channel=room/*&"+tt.query)
				s.opened()
				for i, want := range []string{
					`data: {"ch":"room/ada","event":"room/ada","data":"{\"value\":{\"typing\":true}}"}`,
					`data: {"ch":"room/bob","event":"room/bob","data":"{\"value\":1}"}`,
					`data: {"ch":"room/bob","event":"joined","data":"hello"}`,
					`data: {"ch":"room/bob","event":"message","data":"again"}`,
					`data: {"ch":"room/ada","event":"room/ada","data":"{\"deleted\":true}"}`,
				} {
					got := s.event()
					if strings.HasPrefix(got, "event: evstream.at\n") {
						got = s.event()
					}
					if got != tt.line+want+"\n" {
						t.Fatalf("got %q, want %q", got, tt.line+want+"\n")
					}
					if i > 0 {
						continue // the value was there before the stream, what follows comes after it
					}
					put(t, e, "/live/room/bob", "1")
					mustPost(t, e, "/live/room/bob?event=joined", "hello")
					mustPost(t, e, "/live/room/bob", "again")
					if resp := ask(t, e, asBackend(http.MethodDelete, "/live/room/ada", "")); resp.StatusCode != http.StatusOK {
						t.Fatalf("removing a value: %d", resp.StatusCode)
					}
				}
			})
		}
		e := on.start(t, withState, withRules("anyone subscribe,publish,state **"))
		s := openStream(t, e, "/live/room/bob?named=0&event=joined")
		s.opened()
		mustPost(t, e, "/live/room/bob?event=left", "1")
		mustPost(t, e, "/live/room/bob?event=joined", "2")
		if got, want := s.event(), `data: {"ch":"room/bob","event":"joined","data":"2"}`+"\n"; got != want {
			t.Errorf("of one type: got %q, want %q", got, want)
		}
		for query, detail := range map[string]string{
			"named=no":     `named is 1 or 0, not \"no\"`,
			"as=":          "as is the name that all events get, of 1 to 255 bytes",
			"as=a%0Ab":     "without control characters",
			"as=evstream.": "evstream.",
			"as=a&named=0": "only one of both",
		} {
			resp := ask(t, e, request{http.MethodGet, "/live/room/bob?" + query, []string{"Accept: text/event-stream"}, ""})
			if body := bodyOf(t, resp); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, detail) {
				t.Errorf("%s: %d %s, want 400 with %q", query, resp.StatusCode, body, detail)
			}
		}
	})
}
