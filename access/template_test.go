package access

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
		who   *Caller
		want  string // the pattern, "" for none
	}{
		{"a user", "users/{user}/**", &Caller{User: "alice"}, "users/alice/**"},
		{"first", "{user}/inbox", &Caller{User: "alice"}, "alice/inbox"},
		{"alone", "{user}", &Caller{User: "a@b.example"}, "a@b.example"},
		{"twice", "{user}/{user}", &Caller{User: "a"}, "a/a"},
		{"a claim", "org/{claims.org}/*", &Caller{Claims: map[string]any{"org": "acme"}}, "org/acme/*"},
		{"both", "{claims.org}/{user}", &Caller{User: "7", Claims: map[string]any{"org": "acme"}}, "acme/7"},
		{"a claim whose name is no channel's", "a/{claims.the org}", &Caller{Claims: map[string]any{"the org": "acme"}}, "a/acme"},
		{"a number", "org/{claims.id}", &Caller{Claims: map[string]any{"id": float64(42)}}, "org/42"},
		{"a number as it was written", "org/{claims.id}", &Caller{Claims: map[string]any{"id": json.Number("9007199254740993")}}, "org/9007199254740993"},
		{"a fraction", "org/{claims.id}", &Caller{Claims: map[string]any{"id": 1.5}}, "org/1.5"},
		{"_ behind the first segment", "users/{user}", &Caller{User: "_a"}, "users/_a"},
		{"_ in the first", "{user}/x", &Caller{User: "_sessions"}, ""},
		{"nobody", "users/{user}", &Caller{}, ""},
		{"a bearer is no user", "users/{user}", &Caller{Name: "backend"}, ""},
		{"no such claim", "org/{claims.org}", &Caller{User: "a", Claims: map[string]any{"other": "x"}}, ""},
		{"no claims", "org/{claims.org}", &Caller{User: "a"}, ""},
		{"an empty claim", "org/{claims.org}", &Caller{Claims: map[string]any{"org": ""}}, ""},
		{"a list", "org/{claims.org}", &Caller{Claims: map[string]any{"org": []any{"a"}}}, ""},
		{"an object", "org/{claims.org}", &Caller{Claims: map[string]any{"org": map[string]any{"a": "b"}}}, ""},
		{"a boolean", "org/{claims.org}", &Caller{Claims: map[string]any{"org": true}}, ""},
		{"null", "org/{claims.org}", &Caller{Claims: map[string]any{"org": nil}}, ""},
		{"a number that is not exact", "org/{claims.id}", &Caller{Claims: map[string]any{"id": float64(9007199254740993)}}, ""},
		{"a wildcard", "users/{user}/**", &Caller{User: "*"}, ""},
		{"part of a wildcard", "users/{user}/**", &Caller{User: "a*"}, ""},
		{"everything", "users/{user}", &Caller{User: "**"}, ""},
		{"a slash", "users/{user}/**", &Caller{User: "a/b"}, ""},
		{"up", "users/{user}/**", &Caller{User: ".."}, ""},
		{"here", "users/{user}/**", &Caller{User: "."}, ""},
		{"an escaped slash", "users/{user}/**", &Caller{User: "a%2Fb"}, ""},
		{"a space", "users/{user}/**", &Caller{User: "a b"}, ""},
		{"a NUL", "users/{user}/**", &Caller{User: "a\x00"}, ""},
		{"a line end", "users/{user}/**", &Caller{User: "a\n"}, ""},
		{"beyond ASCII", "users/{user}/**", &Caller{User: "José"}, ""},
		{"a placeholder", "users/{user}/**", &Caller{User: "{user}"}, ""},
		{"too long in all", "users/{user}/**", &Caller{User: long}, ""},
		{"long alone", "{user}", &Caller{User: long}, long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := parseTemplate(tt.where)
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

// FuzzTemplate: whatever a user is called, the pattern that is made for one takes
// in that one segment and no other.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"alice", "*", "a*", "a/b", "..", "_a", "a%2Fb", "{user}", "", "a b", "**"} {
		f.Add(s)
	}
	w, err := parseTemplate("users/{user}/**")
	if err != nil {
		f.Fatal(err)
	}
	a, err := NewPolicy(rulesOf("user subscribe users/{user}/**"), nil, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user string) {
		who := &Caller{User: user}
		p, ok := w.of(who)
		if ok && p.String() != "users/"+user+"/**" {
			t.Errorf("%q becomes %s", user, p)
		}
		for _, other := range []string{"users/other/x", "users", "other", "**", "users/**", "users/*", "users/*/x"} {
			if user != "other" && a.Decide(who, Subscribe, other).Allowed {
				t.Errorf("user %q may read %s", user, other)
			}
		}
		if a.Decide(who, Subscribe, "users/"+user+"/x").Allowed != ok {
			t.Errorf("user %q may not read what is theirs, or has no pattern and may", user)
		}
	})
}
