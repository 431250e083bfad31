package evstream

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/internal/authtest"
)

// hasPresence gives channels beneath chat presence. Users may read it, and guests may not.
func hasPresence(c *siteConfig) {
	c.handler.JWT = &JWTConfig{Keys: []JWTKey{{Key: authtest.Secret}}}
	c.handler.Allow = rulesOf("anyone subscribe,publish **", "user presence chat/**", "backend all **")
	c.broker.Channels = []ChannelConfig{
		{Pattern: "chat/none"},
		{Pattern: "chat/**", Presence: true, PresenceGrace: caddy.Duration(300 * time.Millisecond), PresenceMeta: []string{"name"}},
	}
}

var sinceTime = regexp.MustCompile(`,"since":"20[0-9T:.-]*Z"`)

// withoutTimes removes when members came, which must be there.
func withoutTimes(t *testing.T, s string) string {
	t.Helper()
	if strings.Count(s, `"user"`)-strings.Count(s, `"left":[{"user"`) != len(sinceTime.FindAllString(s, -1)) {
		t.Errorf("a member has not come at any time: %s", s)
	}
	return sinceTime.ReplaceAllString(s, "")
}

// presenceOf reads the document of who is in a channel.
func presenceOf(t *testing.T, e *testSite, path string) string {
	t.Helper()
	resp := ask(t, e, asBackend("GET", path, ""))
	body := bodyOf(t, resp)
	if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %d %s", path, resp.StatusCode, body)
	}
	return withoutTimes(t, body)
}

// wantPresence waits for a document.
func wantPresence(t *testing.T, e *testSite, path, want string) {
	t.Helper()
	var got string
	defer func() {
		if t.Failed() {
			t.Logf("%s is\n%s, and not\n%s", path, got, want)
		}
	}()
	eventually(t, "the document of "+path, func() bool {
		got = presenceOf(t, e, path)
		return got == want
	})
}

// namedToken is the header of the token of a user with a name.
func namedToken(t *testing.T, user string) string {
	return "Authorization: Bearer " + authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"sub": user, "name": "Alice"}))
}

func TestPresenceIsOneMemberForEachUser(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, hasPresence)
		wantPresence(t, e, "/live/_presence/chat/1", `{"channel":"chat/1","count":0,"anonymous":0,"members":[]}`)

		watching := openStream(t, e, "/live/chat/1?presence=1", namedToken(t, "ann"))
		watching.opened()
		snapshot := withoutTimes(t, watching.event())
		if want := "event: evstream.presence\ndata: {\"channel\":\"chat/1\",\"members\":[{\"user\":\"ann\",\"meta\":{\"name\":\"Alice\"}}],\"count\":1}\n"; snapshot != want {
			t.Errorf("the snapshot is %q, not %q", snapshot, want)
		}
		var tabs []*blockReader
		for range 5 {
			tab := openStream(t, e, "/live/?channel=chat/1&channel=other", namedToken(t, "bob"))
			tab.opened()
			tabs = append(tabs, tab)
		}
		anonymous := openStream(t, e, "/live/chat/1")
		anonymous.opened()
		wide := openStream(t, e, "/live/chat/**", namedToken(t, "wide")) // is in no channel
		wide.opened()
		want := `{"channel":"chat/1","count":3,"anonymous":1,"members":[{"user":"ann","sessions":1,"meta":{"name":"Alice"}},{"user":"bob","sessions":5,"meta":{"name":"Alice"}}]}`
		if got := presenceOf(t, e, "/live/_presence/chat/1"); got != want {
			t.Errorf("it is %s, not %s", got, want)
		}
		// The channel has as many subscribers as presence has sessions.
		if info := bodyOf(t, ask(t, e, request{"GET", "/live/chat/1?info", nil, ""})); !strings.Contains(info, `"subscribers":7,`) {
			t.Errorf("its document is %s", info)
		}
		if got := presenceOf(t, e, "/live/_presence/chat/1?limit=1&after=ann"); !strings.Contains(got, `"members":[{"user":"bob"`) || strings.Contains(got, "next") {
			t.Errorf("the second page is %s", got)
		}
		if got := presenceOf(t, e, "/live/_presence/chat/1?limit=1"); !strings.HasSuffix(got, `}}],"next":"ann"}`) {
			t.Errorf("the first page is %s", got)
		}
		// All come together, or one a second.
		in := map[string]bool{}
		for count := 1; count != 3; {
			var d struct {
				Joined []struct{ User string }
				Count  int
			}
			event := watching.event()
			_, data, _ := strings.Cut(event, "data: ")
			if err := json.Unmarshal([]byte(data), &d); err != nil || strings.Contains(event, "id:") {
				t.Fatalf("got %q", event)
			}
			for _, m := range d.Joined {
				in[m.User] = true
			}
			count = d.Count
		}
		if len(in) != 1 || !in["bob"] {
			t.Errorf("%v have joined", in)
		}
		for _, tab := range tabs {
			tab.cancel()
		}
		if got, want := watching.event(), "event: evstream.presence\ndata: {\"channel\":\"chat/1\",\"joined\":[],\"left\":[{\"user\":\"bob\"}],\"count\":2,\"anonymous\":1}\n"; got != want {
			t.Errorf("it was told %q, not %q", got, want)
		}
		wantPresence(t, e, "/live/_presence/chat/1", `{"channel":"chat/1","count":2,"anonymous":1,"members":[{"user":"ann","sessions":1,"meta":{"name":"Alice"}}]}`)
		if got := kept(t, e, "chat/1"); len(got) != 0 {
			t.Errorf("the history has %q", got)
		}
	})
}

func TestAMemberSetsItsMetadata(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, hasPresence)
		put := func(path, body string, header ...string) request {
			return request{"PUT", path, append(header, "Content-Type: application/json"), body}
		}
		me := "/live/_presence/chat/1/me"
		wantProblem(t, ask(t, e, put(me, `{"status":"away"}`, tokenOf(t, "ann"))), 404, "not-found")
		s := openStream(t, e, "/live/chat/1", tokenOf(t, "ann"))
		id := opensSession(t, s)
		for _, tt := range []struct {
			body, header, query string
			want                string
		}{
			{` { "status": "away" } `, tokenOf(t, "ann"), "", `,"meta":{"status":"away"}`},
			{`{"status":"<3"}`, "", "?session=" + id, `,"meta":{"status":"<3"}`},
			{`{}`, tokenOf(t, "ann"), "", `,"meta":{}`},
		} {
			if resp := ask(t, e, put(me+tt.query, tt.body, tt.header)); resp.StatusCode != 204 {
				t.Fatalf("%s: %d %s", tt.body, resp.StatusCode, bodyOf(t, resp))
			}
			if got, want := presenceOf(t, e, "/live/_presence/chat/1"), fmt.Sprintf(`{"channel":"chat/1","count":1,"anonymous":0,"members":[{"user":"ann","sessions":1%s}]}`, tt.want); got != want {
				t.Errorf("it is %s, not %s", got, want)
			}
		}
		anonymous := opensSession(t, openStream(t, e, "/live/chat/1"))
		ann := tokenOf(t, "ann")
		for _, tt := range []struct {
			name   string
			q      request
			status int
			kind   string
		}{
			{"too large", put(me, `{"a":"`+strings.Repeat("x", 1024)+`"}`, ann), 400, "bad-body"},
			{"much too large", put(me, `{"a":"`+strings.Repeat("x", 20_000)+`"}`, ann), 413, "too-large"},
			{"no object", put(me, `[]`, ann), 400, "bad-body"},
			{"empty", put(me, ``, ann), 400, "bad-body"},
			{"nobody", put(me, `{}`), 403, "forbidden"},
			{"an anonymous session", put(me+"?session="+anonymous, `{}`), 403, "forbidden"},
			{"no session", put(me+"?session=none", `{}`), 404, "no-session"},
			{"a session that is not there", put("/live/_presence/chat/2/me?session="+id, `{}`), 404, "not-found"},
			{"a channel without presence", put("/live/_presence/chat/none/me", `{}`, ann), 404, "not-found"},
			{"not me", put("/live/_presence/chat/1", `{}`, ann), 405, "bad-method"},
			{"another parameter", put(me+"?user=bob", `{}`, ann), 400, "bad-parameter"},
			{"another method", request{"DELETE", me, []string{ann}, ""}, 405, "bad-method"},
		} {
			t.Run(tt.name, func(t *testing.T) { wantProblem(t, ask(t, e, tt.q), tt.status, tt.kind) })
		}
	})
}

func TestWhoMayReadPresence(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, hasPresence)
		get := func(path string, header ...string) request { return request{"GET", path, header, ""} }
		stream := func(path string, header ...string) request {
			return request{"GET", path, append(header, "Accept: text/event-stream"), ""}
		}
		ann := tokenOf(t, "ann")
		for _, tt := range []struct {
			name   string
			q      request
			status int
			kind   string
		}{
			{"anonymous", get("/live/_presence/chat/1"), 401, "unauthorized"},
			{"a user elsewhere", get("/live/_presence/other", ann), 403, "forbidden"},
			{"a channel without presence", get("/live/_presence/chat/none", ann), 404, "not-found"},
			{"a pattern", get("/live/_presence/chat/*", ann), 400, "bad-channel"},
			{"no channel", get("/live/_presence", ann), 404, "not-found"},
			{"no channel but a slash", get("/live/_presence/", ann), 400, "bad-channel"},
			{"a limit", get("/live/_presence/chat/1?limit=0", ann), 400, "bad-parameter"},
			{"a parameter", get("/live/_presence/chat/1?prefix=a", ann), 400, "bad-parameter"},
			{"a stream of an anonymous reader", stream("/live/chat/1?presence=1"), 401, "unauthorized"},
			{"a stream without presence", stream("/live/other?presence=1", ann), 400, "bad-parameter"},
			{"a stream of a pattern", stream("/live/chat/*?presence=1", ann), 400, "bad-parameter"},
			{"no flag", stream("/live/chat/1?presence=yes", ann), 400, "bad-parameter"},
			{"a poll", get("/live/chat/1?poll=1&presence=1", ann, "Accept: application/json"), 400, "bad-parameter"},
		} {
			t.Run(tt.name, func(t *testing.T) { wantProblem(t, ask(t, e, tt.q), tt.status, tt.kind) })
		}
		// Who does not ask is told nothing; who asks of several is told of those with presence.
		s := openStream(t, e, "/live/?channel=other&channel=chat/1&channel=chat/2&presence=1", ann)
		s.opened()
		told := s.event() + s.event()
		if !strings.Contains(told, `"channel":"chat/1"`) || !strings.Contains(told, `"channel":"chat/2"`) {
			t.Errorf("it was told %q", told)
		}
	})
}
