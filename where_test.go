package evstream

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a token may say must never take in more than one segment.
func TestPlaceholdersAreOneWholeSegmentOrNothing(t *testing.T) {
	long := strings.Repeat("x", 250)
	for _, tt := range []struct {
		name  string
		where string
		who   caller
		want  string // the pattern, "" for none
	}{
		{"a user", "users/{user}/**", caller{user: "alice"}, "users/alice/**"},
		{"first", "{user}/inbox", caller{user: "alice"}, "alice/inbox"},
		{"alone", "{user}", caller{user: "a@b.example"}, "a@b.example"},
		{"twice", "{user}/{user}", caller{user: "a"}, "a/a"},
		{"a claim", "org/{claims.org}/*", caller{claims: map[string]any{"org": "acme"}}, "org/acme/*"},
		{"both", "{claims.org}/{user}", caller{user: "7", claims: map[string]any{"org": "acme"}}, "acme/7"},
		{"a claim whose name is no channel's", "a/{claims.the org}", caller{claims: map[string]any{"the org": "acme"}}, "a/acme"},
		{"a number", "org/{claims.id}", caller{claims: map[string]any{"id": float64(42)}}, "org/42"},
		{"a number as it was written", "org/{claims.id}", caller{claims: map[string]any{"id": json.Number("9007199254740993")}}, "org/9007199254740993"},
		{"a fraction", "org/{claims.id}", caller{claims: map[string]any{"id": 1.5}}, "org/1.5"},
		{"_ behind the first segment", "users/{user}", caller{user: "_a"}, "users/_a"},
		{"_ in the first", "{user}/x", caller{user: "_sessions"}, ""},
		{"nobody", "users/{user}", caller{}, ""},
		{"a bearer is no user", "users/{user}", caller{name: "backend"}, ""},
		{"no such claim", "org/{claims.org}", caller{user: "a", claims: map[string]any{"other": "x"}}, ""},
		{"no claims", "org/{claims.org}", caller{user: "a"}, ""},
		{"an empty claim", "org/{claims.org}", caller{claims: map[string]any{"org": ""}}, ""},
		{"a list", "org/{claims.org}", caller{claims: map[string]any{"org": []any{"a"}}}, ""},
		{"an object", "org/{claims.org}", caller{claims: map[string]any{"org": map[string]any{"a": "b"}}}, ""},
		{"a boolean", "org/{claims.org}", caller{claims: map[string]any{"org": true}}, ""},
		{"null", "org/{claims.org}", caller{claims: map[string]any{"org": nil}}, ""},
		{"a number that is not exact", "org/{claims.id}", caller{claims: map[string]any{"id": float64(9007199254740993)}}, ""},
		{"a wildcard", "users/{user}/**", caller{user: "*"}, ""},
		{"part of a wildcard", "users/{user}/**", caller{user: "a*"}, ""},
		{"everything", "users/{user}", caller{user: "**"}, ""},
		{"a slash", "users/{user}/**", caller{user: "a/b"}, ""},
		{"up", "users/{user}/**", caller{user: ".."}, ""},
		{"here", "users/{user}/**", caller{user: "."}, ""},
		{"an escaped slash", "users/{user}/**", caller{user: "a%2Fb"}, ""},
		{"a space", "users/{user}/**", caller{user: "a b"}, ""},
		{"a NUL", "users/{user}/**", caller{user: "a\x00"}, ""},
		{"a line end", "users/{user}/**", caller{user: "a\n"}, ""},
		{"beyond ASCII", "users/{user}/**", caller{user: "José"}, ""},
		{"a placeholder", "users/{user}/**", caller{user: "{user}"}, ""},
		{"too long in all", "users/{user}/**", caller{user: long}, ""},
		{"long alone", "{user}", caller{user: long}, long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := parseWhere(tt.where)
			if err != nil {
				t.Fatal(err)
			}
			p, ok := w.of(tt.who)
			if ok != (tt.want != "") || ok && p.String() != tt.want {
				t.Errorf("got %q, %v, want %q", p, ok, tt.want)
			}
		})
	}
}

func TestClaimsCompareByTheirText(t *testing.T) {
	for _, tt := range []struct {
		name  string
		claim any
		value string
		want  bool
	}{
		{"a string", "admin", "admin", true},
		{"case counts", "Admin", "admin", false},
		{"part of it", "administrator", "admin", false},
		{"a number", float64(5), "5", true},
		{"a number of text", json.Number("5"), "5", true},
		{"another way to write it", json.Number("5.0"), "5", false},
		{"a number that is not exact", float64(9007199254740993), "9007199254740992", false},
		{"true", true, "true", true},
		{"false", false, "true", false},
		{"one of a list", []any{"user", "admin"}, "admin", true},
		{"none of a list", []any{"user"}, "admin", false},
		{"a list of numbers", []any{1.0, 2.0}, "2", true},
		{"a list in a list", []any{[]any{"admin"}}, "admin", false},
		{"words in a string", "user admin", "admin", false},
		{"an object", map[string]any{"admin": true}, "admin", false},
		{"null", nil, "null", false},
		{"nothing", nil, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := party{who: "claim", claim: "c", value: tt.value}
			if got := p.includes(caller{claims: map[string]any{"c": tt.claim}}); got != tt.want {
				t.Errorf("got %v", got)
			}
			if p.includes(caller{}) {
				t.Error("nobody has it")
			}
		})
	}
}

// FuzzWhere: whatever a user is called, the pattern that is made for one takes
// in that one segment and no other.
func FuzzWhere(f *testing.F) {
	for _, s := range []string{"alice", "*", "a*", "a/b", "..", "_a", "a%2Fb", "{user}", "", "a b", "**"} {
		f.Add(s)
	}
	w, err := parseWhere("users/{user}/**")
	if err != nil {
		f.Fatal(err)
	}
	a, err := newAccess(rulesOf("user subscribe users/{user}/**"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user string) {
		who := caller{user: user}
		p, ok := w.of(who)
		if ok && p.String() != "users/"+user+"/**" {
			t.Errorf("%q becomes %s", user, p)
		}
		for _, other := range []string{"users/other/x", "users", "other", "**", "users/**", "users/*", "users/*/x"} {
			if user != "other" && a.decide(who, doSubscribe, other).allowed {
				t.Errorf("user %q may read %s", user, other)
			}
		}
		if a.decide(who, doSubscribe, "users/"+user+"/x").allowed != ok {
			t.Errorf("user %q may not read what is theirs, or has no pattern and may", user)
		}
	})
}
