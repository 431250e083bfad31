package evstream

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// A parameter that is misspelt, or that has no meaning for a request, must not make it
// a silently different one.
func TestAWriteWithAnUnknownParameterDoesNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("backend all **"), func(c *siteConfig) {
			c.handler.IgnoreQuery = []string{"datastar", "utm_*"}
			c.handler.InsecureQueryToken = "access_token"
			c.admin = true
		})
		mustPost(t, e, "/live/cart", "kept")
		ask(t, e, asBackend("PUT", "/live/cart", `"full"`))
		for _, tt := range []struct{ method, path, name, near string }{
			{"DELETE", "/live/cart?histroy", "histroy", "history"},
			{"DELETE", "/live/cart?History", "History", "history"},
			{"DELETE", "/live/cart?history&x", "x", ""},
			{"DELETE", "/live/cart?event=a", "event", ""},
			{"PUT", "/live/cart?sesion=a", "sesion", "session"},
			{"PUT", "/live/cart?incr=1", "incr", ""},
			{"PATCH", "/live/cart?inrc=1", "inrc", "incr"},
			{"POST", "/live/cart?channel=b", "channel", ""},
			{"POST", "/live/cart?evnt=a", "evnt", "event"},
			{"POST", "/live/cart?closed", "closed", "close"},
			{"POST", "/live/cart?broker=other", "broker", ""},
			{"POST", "/live/cart/?Event=a", "Event", "event"},
			{"POST", "/live/_publish?event=a", "event", ""},
			{"POST", "/live/_tickets?lifetime=1h", "lifetime", ""},
			{"GET", "/live/cart?poll=1&events=a", "events", "event"},
			{"GET", "/live/cart?info&evnt=a", "evnt", ""},
			{"GET", "/live/_channels?perfix=a", "perfix", "prefix"},
			{"HEAD", "/live/_channels?limits=1", "limits", "limit"},
		} {
			resp := ask(t, e, asBackend(tt.method, tt.path, "1", "Accept: application/json"))
			if tt.method == "HEAD" {
				if resp.StatusCode != 400 {
					t.Errorf("%s %s: %d", tt.method, tt.path, resp.StatusCode)
				}
				continue
			}
			doc := wantProblem(t, resp, 400, "bad-parameter")
			if !strings.Contains(doc.Detail, `"`+tt.name+`"`) || strings.Contains(doc.Detail, "did you mean") != (tt.near != "") ||
				tt.near != "" && !strings.Contains(doc.Detail, "did you mean "+tt.near+"?") {
				t.Errorf("%s %s: %s", tt.method, tt.path, doc.Detail)
			}
		}
		wantProblem(t, ask(t, e, asBackend("DELETE", "/live/cart?history=0", "")), 400, "bad-parameter")
		if got := kept(t, e, "cart"); !slices.Contains(got, ":kept") || len(got) != 2 { // and its value
			t.Errorf("kept %q", got)
		}
		if got := bodyOf(t, ask(t, e, asBackend("GET", "/live/cart", "", "Accept: application/json"))); got != `"full"` {
			t.Errorf("the value is %s", got)
		}

		mustPost(t, e, "/live/a?_=1&_x&datastar=%7B%7D&utm_source=mail&access_token=", "x")
		if status, body := send(t, "POST", e.admin+"/a?broker=default", "x"); status != 200 {
			t.Errorf("the admin endpoint: %d %s", status, body)
		}
		if status, body := send(t, "POST", e.admin+"/a?brokr=default", "x"); status != 400 || !strings.Contains(body, "did you mean broker?") {
			t.Errorf("the admin endpoint: %d %s", status, body)
		}
	})
}

// An error would end an EventSource for good.
func TestAStreamListsWhatItIgnores(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, func(c *siteConfig) { c.handler.IgnoreQuery = []string{"utm_*"} })
		for query, want := range map[string]string{
			"?evnt=score&_=1&utm_x=2&limit=3": `"ignored":["evnt","limit"]`,
			"?ticket=x":                       `"ignored":["ticket"]`,
			"?event=score&lasteventid=":       "",
		} {
			s := openStream(t, e, "/live/match.7"+query)
			if block := s.opening(); strings.Contains(block, `"ignored"`) != (want != "") || !strings.Contains(block, want) {
				t.Errorf("%s: %q, want %s", query, block, want)
			}
		}
	})
}

// Libraries add the last id to the URL of the page, which may have one of its own.
func TestACursorIsFoundInEachSpelling(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		first := mustPost(t, e, "/live/match.7", "1")
		second := mustPost(t, e, "/live/match.7", "2")
		mustPost(t, e, "/live/match.7", "3")
		for _, query := range []string{
			"lastEventId=" + second, "lastEventID=" + second, "Last-Event-ID=" + second, "evs_last_event_id=" + second, "last_event_id=" + second,
			"last_event_id=" + first + "&lastEventId=" + second,
			"lastEventId=" + second + "&last_event_id=" + first,
			"lastEventId=" + first + "&evs_last_event_id=" + second,
			"last_event_id=" + second + "&lastEventId=",
		} {
			s := openStream(t, e, "/live/match.7?"+query)
			s.opened()
			if block := s.event(); block != "data: 3\n" {
				t.Errorf("%s: %q", query, block)
			}
		}
		s := openStream(t, e, "/live/match.7?lastEventId="+first, "Last-Event-ID: "+second)
		s.opened()
		if block := s.event(); block != "data: 3\n" {
			t.Errorf("beside the header: %q", block)
		}
	})
}

func TestAnEventIsNotKeptFromASessionThatCannotBe(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		s := openStream(t, e, "/live/match.7")
		_, session, _ := strings.Cut(s.opening(), `"session":"`)
		session = session[:22]
		for _, bad := range []string{"zzz", session + "A", session[1:], session[:21] + "*", "." + session, session + "."} {
			wantProblem(t, ask(t, e, asBackend("POST", "/live/match.7?except="+url.QueryEscape(bad), "x")), 400, "bad-event")
			wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", `{"channel":"match.7","except":"`+bad+`"}`)), 400, "bad-event")
		}
		mustPost(t, e, "/live/match.7?except="+session, "not for it")
		mustPost(t, e, "/live/match.7?except=node-1."+session, "for it")
		if block := s.event(); block != "data: for it\n" {
			t.Errorf("it got %q", block)
		}
	})
}
