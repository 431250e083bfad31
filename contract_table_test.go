package evstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// Who may do what where: every row of the table, in every way that a request
// has of doing it, over each kind of server.

// withTable serves rules to callers of every kind, behind an authentication by
// somebody else.
func withTable(rules ...string) func(*siteConfig) {
	return func(c *siteConfig) {
		c.handler.Bearers = map[string]string{"backend": "{env.EVSTREAM_TEST_BACKEND}", "guest": "{env.EVSTREAM_TEST_GUEST}"}
		c.handler.JWT = &JWTConfig{Keys: []JWTKey{{Key: "{env.EVSTREAM_TEST_KEY}"}}}
		c.handler.Cookie = "session"
		c.handler.CaddyAuth = true
		c.handler.Tickets = new(TicketsConfig)
		c.handler.Allow = rulesOf(rules...)
		for i := range c.handler.Allow {
			if r := &c.handler.Allow[i]; r.Who == "@office" {
				r.MatcherSetsRaw = caddyhttp.RawMatcherSets{{"header": json.RawMessage(`{"X-Office":["yes"]}`)}}
			}
		}
		c.matchers = map[string]func(*http.Request) bool{"@office": func(r *http.Request) bool { return r.Header.Get("X-Office") == "yes" }}
		c.front = []any{json.RawMessage(`{"handler": "subroute", "routes": [{
			"match": [{"header": {"Authorization": ["Basic*"]}}],
			"handle": [{"handler": "authentication", "providers": {"http_basic": {"accounts": [
				{"username": "carol", "password": "$2a$04$JnzymTUjm5KDctC3K0Cx1.6GIcY1Lo5Xta3VWSusevj6LPslV3l5S"}
			]}}}]
		}]}`)}
		c.outer = func(r *http.Request) string {
			if user, password, ok := r.BasicAuth(); ok && user == "carol" && password == "carols" {
				return user
			}
			return ""
		}
		c.admin = true
	}
}

// tableKey signs the tokens of the table.
const tableKey = "a secret of the table of tests that has no less than 64 bytes in it"

// setTableSecrets sets what withTable's placeholders stand for.
func setTableSecrets(t *testing.T) {
	t.Setenv("EVSTREAM_TEST_BACKEND", "backends-secret")
	t.Setenv("EVSTREAM_TEST_GUEST", "guests-secret")
	t.Setenv("EVSTREAM_TEST_KEY", tableKey)
}

// tableToken is a token with those claims, which does not expire soon.
func tableToken(t *testing.T, claims gojwt.MapClaims) string {
	t.Helper()
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	signed, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, claims).SignedString([]byte(tableKey))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

var tableRules = []string{
	"anyone              subscribe         public/** match.*",
	"anyone              subscribe         mine/{user}/*",
	"guest               subscribe,publish room/*",
	"backend             publish           **",
	"backend             subscribe,purge   own/**",
	"user                subscribe         users/{user}/** lobby",
	"user                publish           users/{user}/out",
	"user                state,session     quiet/**",
	"claim role admin    all               **",
	"claim roles editor  publish           desk/{claims.desk}/**",
	"claim level 5       subscribe         level/five",
	"@office             subscribe,publish office/*",
}

// table says of each what and where who may: all others may not, but for root
// and the admin endpoint, who may do all. "users" are those who are one,
// "everybody" is everybody.
var table = []struct{ do, where, who string }{
	{"subscribe", "match.7", "everybody"},
	{"subscribe", "match.*", "everybody"},
	{"subscribe", "match.1*", "everybody"},
	{"subscribe", "match.7/x", ""},
	{"subscribe", "Match.7", ""},
	{"subscribe", "public", "everybody"},
	{"subscribe", "public/a/b", "everybody"},
	{"subscribe", "public/**", "everybody"},
	{"subscribe", "public/*/b", "everybody"},
	{"subscribe", "publicity", ""},
	{"subscribe", "secret", ""},
	{"subscribe", "*", ""},
	{"subscribe", "**", ""},
	{"subscribe", "room/1", "guest holder"},
	{"subscribe", "room/*", "guest holder"},
	{"subscribe", "room/**", ""},
	{"subscribe", "own/x", "backend"},
	{"subscribe", "own/**", "backend"},
	{"subscribe", "lobby", "users"},
	{"subscribe", "users/alice/inbox", "alice alice-by-cookie"},
	{"subscribe", "users/alice/**", "alice alice-by-cookie"},
	{"subscribe", "users/bob/inbox", "bob"},
	{"subscribe", "users/carol/inbox", "carol"},
	{"subscribe", "users/*/inbox", ""},
	{"subscribe", "users/**", ""},
	{"subscribe", "users/_x/inbox", "underscore"},
	{"subscribe", "mine/alice/x", "alice alice-by-cookie"},
	{"subscribe", "mine/carol/x", "carol"},
	{"subscribe", "level/five", "eve"},
	{"subscribe", "desk/sport/x", ""},
	{"subscribe", "office/1", "office"},
	{"subscribe", "office/*", "office"},
	{"subscribe", "quiet/x", ""},

	{"publish", "match.7", "backend"},
	{"publish", "public/", "backend"},
	{"publish", "room/1", "guest backend"},
	{"publish", "room/", "backend"},
	{"publish", "room/1/", "backend"},
	{"publish", "users/alice/out", "alice alice-by-cookie backend"},
	{"publish", "users/alice/inbox", "backend"},
	{"publish", "users/alice/out/", "backend"},
	{"publish", "users/", "backend"},
	{"publish", "desk/sport/x", "eve backend"},
	{"publish", "desk/sport/", "eve backend"},
	{"publish", "desk/news/x", "backend"},
	{"publish", "desk/", "backend"},
	{"publish", "out/1", "holder backend"},
	{"publish", "out/", "holder backend"},
	{"publish", "office/1", "office backend"},
	{"publish", "office/", "backend"},
	{"publish", "level/five", "backend"},
	{"publish", "quiet/x", "backend"},

	{"purge", "own/x", "backend"},
	{"purge", "match.7", ""},
	{"purge", "room/1", ""},
	{"purge", "users/alice/out", ""},
	{"purge", "quiet/x", ""},
}

// somebody makes requests of the table.
type somebody struct {
	name    string
	user    bool
	base    string // of its URLs
	headers []func(*http.Request)
}

func (s *somebody) may(row struct{ do, where, who string }) bool {
	switch {
	case s.name == "wrong":
		return false
	case s.name == "root", s.name == "the admin endpoint", row.who == "everybody":
		return true
	case row.who == "users":
		return s.user
	}
	return slices.Contains(strings.Fields(row.who), s.name)
}

// ask makes a request and returns its status and body.
func (s *somebody) ask(t *testing.T, method, path, body string, more ...func(*http.Request)) (int, string) {
	t.Helper()
	return send(t, method, s.base+path, body, append(slices.Clone(s.headers), more...)...)
}

func everybody(t *testing.T, e *testSite) []*somebody {
	t.Helper()
	token := func(claims gojwt.MapClaims) func(*http.Request) {
		return header("Authorization", "Bearer "+tableToken(t, claims))
	}
	alice := tableToken(t, gojwt.MapClaims{"sub": "alice"})
	origin := header("Origin", e.url)
	basic := func(r *http.Request) { r.SetBasicAuth("carol", "carols") }
	list := []*somebody{
		{name: "nobody"},
		{name: "wrong", headers: []func(*http.Request){header("Authorization", "Bearer wrong")}},
		{name: "backend", headers: []func(*http.Request){header("Authorization", "Bearer backends-secret")}},
		{name: "guest", headers: []func(*http.Request){header("Authorization", "Bearer guests-secret")}},
		{name: "office", headers: []func(*http.Request){header("X-Office", "yes")}},
		{name: "alice", user: true, headers: []func(*http.Request){header("Authorization", "Bearer "+alice)}},
		{name: "alice-by-cookie", user: true, headers: []func(*http.Request){header("Cookie", "session="+alice), origin}},
		{name: "carol", user: true, headers: []func(*http.Request){basic, origin}},
		{name: "bob", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "bob", "role": "user", "roles": "editor-in-chief"})}},
		{name: "root", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "root", "role": "admin"})}},
		{name: "eve", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "eve", "roles": []string{"writer", "editor"}, "desk": "sport", "level": 5})}},
		{name: "a desk called *", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "mallory", "roles": []string{"editor"}, "desk": "*", "level": 5.5})}},
		{name: "holder", headers: []func(*http.Request){token(gojwt.MapClaims{"evstream": map[string]any{"subscribe": []string{"room/*"}, "publish": []string{"out/**"}}})}},
		{name: "star", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "*", "desk": "**"})}},
		{name: "slash", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "alice/inbox"})}},
		{name: "underscore", user: true, headers: []func(*http.Request){token(gojwt.MapClaims{"sub": "_x"})}},
		{name: "the admin endpoint", base: e.admin},
	}
	for _, s := range list {
		if s.base == "" {
			s.base = e.url + "/live"
		}
	}
	return list
}

// refusedStatus is what somebody is told who may not.
func (s *somebody) refusedStatus() int {
	switch s.name {
	case "nobody", "office", "wrong":
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

func TestWhoMayDoWhatWhere(t *testing.T) {
	setTableSecrets(t)
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withTable(tableRules...))
		b := e.hub.Broker()
		for _, row := range table {
			if row.do == access.Subscribe && !channel.IsPattern(row.where) {
				op := broker.Op{Kind: broker.KindEvent, Channel: row.where, Event: sse.Event{Data: []byte("kept in " + row.where)}}
				if _, err := b.Publish(t.Context(), []broker.Op{op}); err != nil {
					t.Fatal(err)
				}
			}
		}
		all := everybody(t, e)
		rows := 0
		for _, row := range table {
			for _, who := range all {
				rows++
				want := http.StatusOK
				if !who.may(row) {
					want = who.refusedStatus()
				}
				ways := who.writes
				switch row.do {
				case access.Subscribe:
					ways = who.reads
				case access.Purge:
					ways = who.purges
				}
				for way, got := range ways(t, row.where, want) {
					if got != want {
						t.Errorf("%s, to %s %s, by %s: %d, want %d", who.name, row.do, row.where, way, got, want)
					}
				}
			}
		}
		if rows < 150 {
			t.Errorf("the table has %d rows only", rows)
		}
		t.Logf("%d rows", rows)
	})
}

// reads tries each way of reading a channel, and returns the statuses.
func (s *somebody) reads(t *testing.T, where string, want int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	// Live and replay: a stream that begins with what is kept.
	replay := func(way string, stream *caddyStream) {
		got[way] = stream.status
		if stream.status == http.StatusOK && !channel.IsPattern(where) {
			if data := stream.next(); data != "kept in "+where {
				t.Errorf("%s reads %q in %s", s.name, data, where)
			}
		}
		stream.cancel()
	}
	replay("a stream", connect(t, s.base+"/"+where+"?since=earliest", s.headers...))
	replay("a stream among others", connect(t, s.base+"?since=earliest&channel="+where, s.headers...))
	json := header("Accept", "application/json")
	var body string
	got["a poll"], body = s.ask(t, http.MethodGet, "/"+where+"?poll=1&since=earliest", "", json)
	if leaked := strings.Contains(body, "kept in"); leaked && want != http.StatusOK {
		t.Errorf("%s is told %s", s.name, body)
	}
	if !channel.IsPattern(where) {
		got["?info"], _ = s.ask(t, http.MethodGet, "/"+where+"?info", "", json)
		status, body := s.ask(t, http.MethodGet, "/_channels?limit=1000", "", json)
		if listed := strings.Contains(body, fmt.Sprintf("%q", where)); listed {
			got["the list"] = http.StatusOK
		} else if status == http.StatusOK {
			got["the list"] = want // it is not named, as is right where it may not be
			if want == http.StatusOK {
				got["the list"] = http.StatusNotFound
			}
		} else {
			got["the list"] = status
		}
	}
	if status, body := s.ask(t, http.MethodPost, "/_tickets", ""); status == http.StatusOK {
		var doc struct{ Ticket string }
		if err := jsonInto(body, &doc); err != nil {
			t.Fatal(err)
		}
		replay("a ticket", connect(t, s.base+"/"+where+"?since=earliest&ticket="+doc.Ticket))
	} else if s.name != "nobody" && s.name != "wrong" && s.name != "office" && s.name != "the admin endpoint" {
		t.Errorf("%s gets no ticket: %d %s", s.name, status, body)
	}
	return got
}

func jsonInto(body string, v any) error { return json.Unmarshal([]byte(body), v) }

// writes tries each way of publishing to a channel, and returns the statuses.
func (s *somebody) writes(t *testing.T, where string, _ int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	lines := header("Content-Type", "application/x-ndjson")
	events := header("Content-Type", "text/event-stream")
	got["POST"], _ = s.ask(t, http.MethodPost, "/"+where, "x")
	got["NDJSON"], _ = s.ask(t, http.MethodPost, "/"+where, "1\n2\n", lines)
	got["an event stream"], _ = s.ask(t, http.MethodPost, "/"+where, "data: 1\n\n", events)
	item := fmt.Sprintf(`{"channel":%q}`, where)
	got["_publish"], _ = s.ask(t, http.MethodPost, "/_publish", item)
	got["_publish, an array"], _ = s.ask(t, http.MethodPost, "/_publish", "["+item+"]")
	got["_publish, lines"], _ = s.ask(t, http.MethodPost, "/_publish", item+"\n", lines)
	return got
}

// purges purges a channel, and returns the status.
func (s *somebody) purges(t *testing.T, where string, _ int) map[string]int {
	t.Helper()
	status, _ := s.ask(t, http.MethodDelete, "/"+where+"?history", "")
	return map[string]int{"DELETE": status}
}

// Streams that live through a reload, which is Caddy's, are decided by the same
// table.
func TestWhoMayGoOnReadingAfterAReload(t *testing.T) {
	setTableSecrets(t)
	e := serveCaddy(t, newSiteConfig(withTable("anyone subscribe **", "@office publish nothing")))
	type open struct {
		who    *somebody
		where  string
		may    bool
		stream *caddyStream
	}
	var streams []open
	for _, who := range everybody(t, e) {
		if who.name == "wrong" {
			continue
		}
		for _, row := range table {
			if row.do == access.Subscribe {
				streams = append(streams, open{who, row.where, who.may(row), subscribe(t, who.base+"/"+row.where, who.headers...)})
			}
		}
	}
	next := newSiteConfig(withTable(tableRules...))
	if err := reloadJSON(t, next.caddyJSON(t, e.address, e.adminAddress)); err != nil {
		t.Fatal(err)
	}
	// Who is refused gets what was new by then, as at any end. So the end first.
	h, allowed := e.hub, 0
	for _, s := range streams {
		if s.may {
			allowed++
		}
	}
	eventually(t, fmt.Sprintf("%d of %d streams to go on", allowed, len(streams)), func() bool { return len(h.Sessions()) == allowed })
	b := h.Broker()
	published := make(map[string]bool)
	for _, s := range streams {
		// A channel that the pattern takes in, if it is one.
		channel := strings.ReplaceAll(strings.ReplaceAll(s.where, "**", "x"), "*", "x")
		if published[channel] {
			continue
		}
		published[channel] = true
		op := broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Data: []byte("after")}}
		if _, err := b.Publish(t.Context(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range streams {
		e, err := s.stream.events.Next()
		for err == nil && strings.HasPrefix(e.Type, "evstream.") {
			e, err = s.stream.events.Next()
		}
		if goesOn := err == nil && string(e.Data) == "after"; goesOn != s.may {
			t.Errorf("%s, reading %s: goes on %v, want %v (%v)", s.who.name, s.where, goesOn, s.may, err)
		}
		s.stream.cancel()
	}
	t.Logf("%d streams", len(streams))
}
