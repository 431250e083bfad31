package access

import (
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/problem"
)

// rulesOf reads rules as they stand behind allow in a configuration.
func rulesOf(lines ...string) []Rule {
	var rules []Rule
	for _, line := range lines {
		args := strings.Fields(line)
		var r Rule
		if args[0] == HasClaim {
			r.Claim, r.Value = args[1], args[2]
			args = append(args[:1], args[3:]...)
		}
		r.Who, r.Do, r.Channels = args[0], strings.Split(args[1], ","), args[2:]
		rules = append(rules, r)
	}
	return rules
}

// testGrants are what a token allows by itself.
func testGrants(t *testing.T, do string, patterns ...string) *Grants {
	t.Helper()
	g := &Grants{patterns: make(map[string][]channel.Pattern)}
	for _, s := range patterns {
		p, err := channel.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		g.patterns[do] = append(g.patterns[do], p)
	}
	return g
}

func TestDecide(t *testing.T) {
	nobody, backend, guest := &Caller{}, &Caller{Name: "backend"}, &Caller{Name: "guest"}
	alice := &Caller{User: "alice", Claims: map[string]any{"sub": "alice"}}
	admin := &Caller{User: "root", Claims: map[string]any{"role": "admin"}}
	editor := &Caller{User: "eve", Claims: map[string]any{"role": []any{"editor", "x"}, "desk": "sport"}}
	holder := &Caller{Grants: testGrants(t, "subscribe", "room/*")}
	a, err := NewPolicy(rulesOf(
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
	), []string{"backend", "guest"}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		who     *Caller
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
		{"another bearer", &Caller{Name: "guest2"}, "publish", "room/1", ""},
		{"nobody is no bearer", nobody, "publish", "room/1", ""},
		{"beneath, with a closed end", guest, "publish", "room/1/", ""},
		{"beneath, above the rule", guest, "publish", "room/", ""},
		{"beneath everything", backend, "publish", "football/", "allow backend publish **"},
		{"beneath nothing", backend, "publish", "/", ""},
		{"all is each verb", backend, "subscribe", "own/x", "allow backend all own/**"},
		{"all, beneath", backend, "state", "own/", "allow backend all own/**"},
		{"all, above", backend, "subscribe", "other", ""},
		{"a bearer by an empty name", &Caller{Name: ""}, "publish", "own/x", ""},

		{"a user", alice, "subscribe", "lobby", "allow user subscribe users/{user}/** lobby"},
		{"a bearer is no user", backend, "subscribe", "lobby", ""},
		{"nobody is no user", nobody, "subscribe", "lobby", ""},
		{"who has claims and no name is no user", &Caller{Claims: map[string]any{"role": "x"}}, "subscribe", "lobby", ""},
		{"their own", alice, "subscribe", "users/alice/inbox", "allow user subscribe users/{user}/** lobby"},
		{"all of their own", alice, "subscribe", "users/alice/**", "allow user subscribe users/{user}/** lobby"},
		{"somebody else's", alice, "subscribe", "users/bob/inbox", ""},
		{"everybody's", alice, "subscribe", "users/*/inbox", ""},
		{"all users", alice, "subscribe", "users/**", ""},
		{"a user called *", &Caller{User: "*"}, "subscribe", "users/bob/inbox", ""},
		{"a user called *, by that name", &Caller{User: "*"}, "subscribe", "users/*/inbox", ""},
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
			got := a.Decide(tt.who, tt.do, tt.channel)
			if got.Allowed != (tt.by != "") || got.By != tt.by {
				t.Errorf("got %+v, want %q", got, tt.by)
			}
		})
	}
}

func TestAllowAllAllowsAll(t *testing.T) {
	p, who := AllowAll(), &Caller{Admin: true}
	if !p.AllowsAll() || !p.Decide(who, "publish", "x/").Allowed || !p.Somewhere(who, Subscribe) || p.Require(who, ChangeState, "a b") != nil {
		t.Error("it does not allow all")
	}
}

func TestAnEmptyPolicyAllowsNothing(t *testing.T) {
	p, who := new(Policy), &Caller{Name: "x"}
	if p.AllowsAll() || p.Decide(who, "subscribe", "a").Allowed || p.Somewhere(who, "subscribe") {
		t.Error("allowed without a rule")
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	bearers := []string{"backend"}
	matches := func(*http.Request) bool { return true }
	for _, tt := range []struct {
		name  string
		rules []Rule
		want  string
	}{
		{"no rules", nil, "there is no allow rule"},
		{"nobody", rulesOf("bakend publish **"), `"bakend" is nobody: a rule allows anyone, user, claim <name> <value>, @<matcher> or bearer backend`},
		{"no who", []Rule{{Do: []string{"all"}, Channels: []string{"a"}}}, `"" is nobody`},
		{"a claim without a value", []Rule{{Who: "claim", Claim: "role", Do: []string{"all"}, Channels: []string{"a"}}}, "its name and its value"},
		{"a claim of a bearer", []Rule{{Who: "backend", Claim: "role", Value: "x", Do: []string{"all"}, Channels: []string{"a"}}}, `a claim is given, but the rule is for "backend"`},
		{"a matcher of anyone", []Rule{{Who: "anyone", Match: matches, Do: []string{"all"}, Channels: []string{"a"}}}, `a matcher is given, but the rule is for "anyone"`},
		{"the identity of a matcher of anyone", []Rule{{Who: "anyone", Matcher: "x", Do: []string{"all"}, Channels: []string{"a"}}}, `a matcher is given, but the rule is for "anyone"`},
		{"a matcher that is not there", rulesOf("@office publish **"), "the matcher @office is not defined"},
		{"a matcher without a name", rulesOf("@ publish **"), "has a name after the @"},
		{"a placeholder that is none", rulesOf("user subscribe {usr}/**"), `"{usr}/**" has "{usr}": only {user} and {claims.<name>}`},
		{"a placeholder of Caddy's", rulesOf("user subscribe {http.auth.user.id}"), "only {user} and {claims.<name>}"},
		{"part of a segment", rulesOf("user subscribe u-{user}"), "each as a whole segment"},
		{"part of a segment, behind", rulesOf("user subscribe {user}s"), "each as a whole segment"},
		{"two in a segment", rulesOf("user subscribe {user}{user}"), "each as a whole segment"},
		{"a claim without a name", rulesOf("user subscribe {claims.}"), "each as a whole segment"},
		{"a brace", rulesOf("user subscribe a/}"), "each as a whole segment"},
		{"a bad pattern with one", rulesOf("user subscribe {user}/a**"), "** stands alone"},
		{"the hub's own names with one", rulesOf("user subscribe _sessions/{user}"), "belong to the hub"},
		{"a verb", rulesOf("anyone read **"), `"read" cannot be allowed, only subscribe, publish`},
		{"no verb", []Rule{{Who: "anyone", Channels: []string{"a"}}}, "it allows nothing"},
		{"no channel", []Rule{{Who: "anyone", Do: []string{"all"}}}, "it names no channels"},
		{"a pattern", rulesOf("anyone subscribe a**"), "** stands alone"},
		{"a name of the hub's", rulesOf("anyone subscribe _sessions/**"), "belong to the hub"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewPolicy(tt.rules, bearers, true)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestWhoIsNotAllowedIsToldWhatIsMissing(t *testing.T) {
	with, err := NewPolicy(rulesOf("anyone subscribe public/** match.*", "backend publish,subscribe **"), []string{"backend", "guest"}, true)
	if err != nil {
		t.Fatal(err)
	}
	without, err := NewPolicy(rulesOf("anyone subscribe public/**"), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		access  *Policy
		who     *Caller
		do      string
		channel string
		status  int
		detail  string
	}{
		{"nobody, where a bearer could help", with, &Caller{}, "publish", "a", 401, `without credentials there is no permission to publish, here channel "a"`},
		{"somebody", with, &Caller{Name: "guest"}, "publish", "a/", 403, `guest has no permission to publish, here channel "a/"`},
		{"nobody, where none could", without, &Caller{}, "subscribe", "b/*", 403, `anyone has no permission to subscribe, here channel "b/*"`},
		{"a bad name", without, &Caller{}, "subscribe", "a b", 400, "not a channel name"},
		{"a bad name beneath", without, &Caller{}, "publish", "a b/", 400, "not a channel name"},
		{"a pattern to publish to", without, &Caller{}, "publish", "a/*", 400, "not a channel name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.access.Require(tt.who, tt.do, tt.channel)
			if err == nil {
				t.Fatal("allowed")
			}
			if p := problem.Of(err); p.Status() != tt.status || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("got %d %s, want %d %s", p.Status(), p.Detail, tt.status, tt.detail)
			}
		})
	}
}
