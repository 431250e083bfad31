package evstream

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/broker"
)

// rulesOf reads rules as they stand behind allow.
func rulesOf(lines ...string) []AllowRule {
	var rules []AllowRule
	for _, line := range lines {
		r, err := parseRule(strings.Fields(line))
		if err != nil {
			panic(err)
		}
		rules = append(rules, r)
	}
	return rules
}

// testGrants are what a token allows by itself.
func testGrants(t *testing.T, do string, patterns ...string) *grants {
	t.Helper()
	g := &grants{patterns: make(map[string][]broker.Pattern)}
	for _, s := range patterns {
		p, err := broker.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		g.patterns[do] = append(g.patterns[do], p)
	}
	return g
}

func TestDecide(t *testing.T) {
	nobody, backend, guest := caller{}, caller{name: "backend"}, caller{name: "guest"}
	alice := caller{user: "alice", claims: map[string]any{"sub": "alice"}}
	admin := caller{user: "root", claims: map[string]any{"role": "admin"}}
	editor := caller{user: "eve", claims: map[string]any{"role": []any{"editor", "x"}, "desk": "sport"}}
	holder := caller{grants: testGrants(t, "subscribe", "room/*")}
	a, err := newAccess(rulesOf(
		"anyone subscribe public/** match.*",
		"anyone subscribe split/a/** split/b/**",
		"guest subscribe,publish room/*",
		"backend publish **",
		"backend all own/**",
		"user subscribe users/{user}/** lobby",
		"anyone subscribe mine/{user}/*",
		"claim role admin publish admin/**",
		"claim role editor publish desk/{claims.desk}/**",
		"user all last/{user}",
	), map[string]string{"backend": "1", "guest": "2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		who     caller
		do      string
		channel string
		by      string // the rule, or "" for not allowed
	}{
		{"a channel", nobody, "subscribe", "match.7", "allow anyone subscribe public/** match.*"},
		{"the first pattern", nobody, "subscribe", "public/a/b", "allow anyone subscribe public/** match.*"},
		{"the base of an open end", nobody, "subscribe", "public", "allow anyone subscribe public/** match.*"},
		{"anyone is somebody, too", guest, "subscribe", "match.7", "allow anyone subscribe public/** match.*"},
		{"no rule", nobody, "subscribe", "secret", ""},
		{"another verb", nobody, "publish", "match.7", ""},
		{"case counts", nobody, "subscribe", "Match.7", ""},
		{"a segment more", nobody, "subscribe", "match.7/x", ""},
		{"a prefix is no match", nobody, "subscribe", "publicity", ""},

		{"a pattern that is contained", nobody, "subscribe", "public/x.*/y", "allow anyone subscribe public/** match.*"},
		{"the pattern itself", nobody, "subscribe", "public/**", "allow anyone subscribe public/** match.*"},
		{"what the rule itself says", nobody, "subscribe", "match.*", "allow anyone subscribe public/** match.*"},
		{"a wider pattern", nobody, "subscribe", "*", ""},
		{"everything", nobody, "subscribe", "**", ""},
		{"a pattern with an open end", nobody, "subscribe", "match.*/**", ""},
		{"two patterns do not add up", nobody, "subscribe", "split/*/**", ""},
		{"a pattern that is none", nobody, "subscribe", "public/a**b", ""},

		{"a bearer's rule", guest, "publish", "room/1", "allow guest subscribe,publish room/*"},
		{"another bearer", caller{name: "guest2"}, "publish", "room/1", ""},
		{"nobody is no bearer", nobody, "publish", "room/1", ""},
		{"beneath, with a closed end", guest, "publish", "room/1/", ""},
		{"beneath, above the rule", guest, "publish", "room/", ""},
		{"beneath everything", backend, "publish", "football/", "allow backend publish **"},
		{"beneath nothing", backend, "publish", "/", ""},
		{"all is each verb", backend, "subscribe", "own/x", "allow backend all own/**"},
		{"all, beneath", backend, "state", "own/", "allow backend all own/**"},
		{"all, above", backend, "subscribe", "other", ""},
		{"a bearer by an empty name", caller{name: ""}, "publish", "own/x", ""},

		{"a user", alice, "subscribe", "lobby", "allow user subscribe users/{user}/** lobby"},
		{"a bearer is no user", backend, "subscribe", "lobby", ""},
		{"nobody is no user", nobody, "subscribe", "lobby", ""},
		{"who has claims and no name is no user", caller{claims: map[string]any{"role": "x"}}, "subscribe", "lobby", ""},
		{"their own", alice, "subscribe", "users/alice/inbox", "allow user subscribe users/{user}/** lobby"},
		{"all of their own", alice, "subscribe", "users/alice/**", "allow user subscribe users/{user}/** lobby"},
		{"somebody else's", alice, "subscribe", "users/bob/inbox", ""},
		{"everybody's", alice, "subscribe", "users/*/inbox", ""},
		{"all users", alice, "subscribe", "users/**", ""},
		{"a user called *", caller{user: "*"}, "subscribe", "users/bob/inbox", ""},
		{"a user called *, by that name", caller{user: "*"}, "subscribe", "users/*/inbox", ""},
		{"{user} for anyone, with a user", alice, "subscribe", "mine/alice/x", "allow anyone subscribe mine/{user}/*"},
		{"{user} for anyone, without", nobody, "subscribe", "mine//x", ""},
		{"{user} for anyone, literally", nobody, "subscribe", "mine/{user}/x", ""},
		{"beneath their own", alice, "publish", "last/alice/", ""},
		{"a claim", admin, "publish", "admin/x", "allow claim role admin publish admin/**"},
		{"beneath, by a claim", admin, "publish", "admin/", "allow claim role admin publish admin/**"},
		{"without the claim", alice, "publish", "admin/x", ""},
		{"a role in a list", editor, "publish", "desk/sport/x", "allow claim role editor publish desk/{claims.desk}/**"},
		{"beneath a claim's segment", editor, "publish", "desk/sport/", "allow claim role editor publish desk/{claims.desk}/**"},
		{"another's segment", editor, "publish", "desk/news/x", ""},
		{"the segment's parent", editor, "publish", "desk/", ""},
		{"a grant", holder, "subscribe", "room/7", "the token's grant subscribe room/*"},
		{"a wildcard within a grant", holder, "subscribe", "room/7*", "the token's grant subscribe room/*"},
		{"beyond a grant", holder, "subscribe", "room/7/x", ""},
		{"another verb than the grant's", holder, "publish", "room/7", ""},
		{"a grant's pattern itself", holder, "subscribe", "room/*", "the token's grant subscribe room/*"},

		{"no channel", backend, "publish", "", ""},
		{"no verb", backend, "", "own2", ""},
		{"a verb that is none", backend, "all", "x", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.decide(tt.who, tt.do, tt.channel)
			if got.allowed != (tt.by != "") || got.by != tt.by {
				t.Errorf("got %+v, want %q", got, tt.by)
			}
		})
	}
}

func TestTheAdminEndpointAllowsAll(t *testing.T) {
	who, err := allowAll.identify(httptest.NewRequest("GET", "/", nil))
	if err != nil || !who.admin || !allowAll.decide(who, "publish", "x/").allowed {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestAnEmptyAccessAllowsNothing(t *testing.T) {
	if new(access).decide(caller{name: "x"}, "subscribe", "a").allowed {
		t.Error("allowed without a rule")
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	secrets := map[string]string{"backend": "1"}
	for _, tt := range []struct {
		name    string
		rules   []AllowRule
		bearers map[string]string
		want    string
	}{
		{"no rules", nil, secrets, "there is no allow rule"},
		{"nobody", rulesOf("bakend publish **"), secrets, `"bakend" is nobody: a rule allows anyone, user, claim <name> <value>, @<matcher> or bearer backend`},
		{"no who", []AllowRule{{Do: []string{"all"}, Channels: []string{"a"}}}, secrets, `"" is nobody`},
		{"a claim without a value", []AllowRule{{Who: "claim", Claim: "role", Do: []string{"all"}, Channels: []string{"a"}}}, secrets, "its name and its value"},
		{"a claim of a bearer", []AllowRule{{Who: "backend", Claim: "role", Value: "x", Do: []string{"all"}, Channels: []string{"a"}}}, secrets, `a claim is given, but the rule is for "backend"`},
		{"a matcher of anyone", []AllowRule{{Who: "anyone", MatcherSetsRaw: caddyhttp.RawMatcherSets{}, Do: []string{"all"}, Channels: []string{"a"}}}, secrets, `a matcher is given, but the rule is for "anyone"`},
		{"a matcher without a name", rulesOf("@ publish **"), secrets, "has a name after the @"},
		{"a placeholder that is none", rulesOf("user subscribe {usr}/**"), secrets, `"{usr}/**" has "{usr}": only {user} and {claims.<name>}`},
		{"a placeholder of Caddy's", rulesOf("user subscribe {http.auth.user.id}"), secrets, "only {user} and {claims.<name>}"},
		{"part of a segment", rulesOf("user subscribe u-{user}"), secrets, "each as a whole segment"},
		{"part of a segment, behind", rulesOf("user subscribe {user}s"), secrets, "each as a whole segment"},
		{"two in a segment", rulesOf("user subscribe {user}{user}"), secrets, "each as a whole segment"},
		{"a claim without a name", rulesOf("user subscribe {claims.}"), secrets, "each as a whole segment"},
		{"a brace", rulesOf("user subscribe a/}"), secrets, "each as a whole segment"},
		{"a bad pattern with one", rulesOf("user subscribe {user}/a**"), secrets, "** stands alone"},
		{"the hub's own names with one", rulesOf("user subscribe _sessions/{user}"), secrets, "belong to the hub"},
		{"a verb", rulesOf("anyone read **"), secrets, `"read" cannot be allowed, only subscribe, publish`},
		{"no verb", []AllowRule{{Who: "anyone", Channels: []string{"a"}}}, secrets, "it allows nothing"},
		{"no channel", []AllowRule{{Who: "anyone", Do: []string{"all"}}}, secrets, "it names no channels"},
		{"a pattern", rulesOf("anyone subscribe a**"), secrets, "** stands alone"},
		{"a name of the hub's", rulesOf("anyone subscribe _sessions/**"), secrets, "belong to the hub"},
		{"an empty secret", rulesOf("anyone subscribe **"), map[string]string{"b": ""}, `the secret of bearer "b" is empty`},
		{"a secret with a newline", rulesOf("anyone subscribe **"), map[string]string{"b": "x\n"}, "white space"},
		{"two with one secret", rulesOf("anyone subscribe **"), map[string]string{"a": "topsecret", "b": "topsecret"}, `"a" and "b" have the same secret`},
		{"a bearer called anyone", rulesOf("anyone subscribe **"), map[string]string{"anyone": "x"}, "a meaning of its own"},
		{"a bearer called user", rulesOf("anyone subscribe **"), map[string]string{"user": "x"}, "a meaning of its own"},
		{"a bearer without a name", rulesOf("anyone subscribe **"), map[string]string{"": "x"}, "cannot name a bearer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newAccess(tt.rules, tt.bearers)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "topsecret") {
				t.Errorf("%v tells a secret", err)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	a, err := newAccess(rulesOf("anyone subscribe **"), map[string]string{"backend": "s3cret", "guest": "guest-s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		header []string
		want   string // a name, "" for nobody, "401"
	}{
		{"nothing", nil, ""},
		{"a bearer", []string{"Bearer s3cret"}, "backend"},
		{"another", []string{"Bearer guest-s3cret"}, "guest"},
		{"the scheme ignores case", []string{"bearer s3cret"}, "backend"},
		{"spaces around", []string{"Bearer  s3cret "}, "backend"},
		{"a wrong one", []string{"Bearer s3cre"}, "401"},
		{"longer", []string{"Bearer s3crets"}, "401"},
		{"another case", []string{"Bearer S3CRET"}, "401"},
		{"an empty one", []string{"Bearer "}, "401"},
		{"none", []string{"Bearer"}, "401"},
		{"two", []string{"Bearer s3cret", "Bearer s3cret"}, "401"},
		{"another scheme", []string{"Basic czNjcmV0"}, ""},
		{"an empty header", []string{""}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Authorization"] = tt.header
			who, err := a.identify(r)
			if tt.want == "401" {
				if err == nil || problemOf(err).status() != http.StatusUnauthorized {
					t.Fatalf("got %v, %v", who, err)
				}
				if strings.Contains(strings.ToLower(err.Error()), "s3cre") {
					t.Errorf("%v tells a secret", err)
				}
				return
			}
			if err != nil || who.name != tt.want || who.admin {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}

func TestABearerMeansNothingWhereNoneIsConfigured(t *testing.T) {
	a, err := newAccess(rulesOf("anyone subscribe **"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer of somebody in front")
	if who, err := a.identify(r); err != nil || who.name != "" {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestWhoIsNotAllowedIsToldWhatIsMissing(t *testing.T) {
	with, err := newAccess(testRules, map[string]string{"backend": "1", "guest": "2"})
	if err != nil {
		t.Fatal(err)
	}
	without, err := newAccess(rulesOf("anyone subscribe public/**"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		access  *access
		who     caller
		do      string
		channel string
		status  int
		detail  string
	}{
		{"nobody, where a bearer could help", with, caller{}, "publish", "a", 401, `without credentials there is no permission to publish, here channel "a"`},
		{"somebody", with, caller{name: "guest"}, "publish", "a/", 403, `guest has no permission to publish, here channel "a/"`},
		{"nobody, where none could", without, caller{}, "subscribe", "b/*", 403, `anyone has no permission to subscribe, here channel "b/*"`},
		{"a bad name", without, caller{}, "subscribe", "a b", 400, "not a channel name"},
		{"a bad name beneath", without, caller{}, "publish", "a b/", 400, "not a channel name"},
		{"a pattern to publish to", without, caller{}, "publish", "a/*", 400, "not a channel name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.access.require(tt.who, tt.do, tt.channel)
			if err == nil {
				t.Fatal("allowed")
			}
			if p := problemOf(err); p.status() != tt.status || !strings.Contains(p.detail, tt.detail) {
				t.Errorf("got %d %s, want %d %s", p.status(), p.detail, tt.status, tt.detail)
			}
		})
	}
}
