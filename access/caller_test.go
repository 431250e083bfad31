package access

import (
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

func TestCallersAreToldApart(t *testing.T) {
	seen := map[string]*Caller{}
	for _, who := range []*Caller{
		{},
		{Admin: true},
		{Name: "admin"},
		{User: "admin"},
		{User: "bearer:admin"},
		{User: "user:admin"},
		{Name: "user:admin"},
		{TokenID: "admin", Claims: map[string]any{}},
		{User: "token:admin"},
	} {
		if other, ok := seen[who.Identity()]; ok {
			t.Errorf("%+v and %+v are %q", who, other, who.Identity())
		}
		seen[who.Identity()] = who
	}
}

func TestCallersAreNamed(t *testing.T) {
	for _, tt := range []struct {
		name      string
		who       *Caller
		want      string
		anonymous bool
	}{
		{"nobody", AnonymousCaller(), "anyone", true},
		{"whom a matcher matches", &Caller{Matched: map[string]bool{"m": true}}, "anyone", true},
		{"a bearer", &Caller{Name: "backend", Method: ByBearer}, "backend", false},
		{"a user", &Caller{User: "alice"}, `user "alice"`, false},
		{"a user that leaves its line", &Caller{User: "a\nb"}, `user "a\nb"`, false},
		{"a long user", &Caller{User: strings.Repeat("x", 70)}, `user "` + strings.Repeat("x", 64) + `…"`, false},
		{"a token without a user", &Caller{TokenID: "17"}, "the bearer of the token", false},
		{"claims without a user", &Caller{Claims: map[string]any{}}, "the bearer of the token", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.who.String(); got != tt.want || tt.who.Anonymous() != tt.anonymous {
				t.Errorf("got %s, anonymous %v", got, tt.who.Anonymous())
			}
		})
	}
}

func TestAStreamKeepsAllOfItsCallerButTheEvent(t *testing.T) {
	who := &Caller{User: "alice", Method: ByApplication, Event: &sse.Event{Type: "hello"}}
	kept := who.Kept()
	if kept.Event != nil || kept.User != "alice" || kept.Method != ByApplication {
		t.Errorf("kept is %+v", kept)
	}
	if who.Event == nil {
		t.Error("the caller itself has changed")
	}
	// Of the many who are nobody there is one.
	if (&Caller{Event: &sse.Event{Type: "hello"}}).Kept() != AnonymousCaller() {
		t.Error("an anonymous caller has memory of its own")
	}
	for _, who := range []*Caller{{Admin: true}, {Name: "b"}, {Method: ByToken}, {Matched: map[string]bool{"m": true}}} {
		if who.Kept() == AnonymousCaller() {
			t.Errorf("%+v is forgotten", who)
		}
	}
}

func TestGrantsAreReadFromTheirClaim(t *testing.T) {
	list := func(patterns ...any) []any { return patterns }
	for _, tt := range []struct {
		name  string
		claim any
		want  string // of the error, "" for none
	}{
		{"each verb", map[string]any{"subscribe": list("a/**", "b"), "publish": list("c"), "purge": list("c"), "state": list("*"), "session": list("**")}, ""},
		{"presence", map[string]any{"presence": list("a")}, ""},
		{"none", map[string]any{}, ""},
		{"an empty list", map[string]any{"subscribe": list()}, ""},
		{"no object", list("**"), "is not an object of verbs"},
		{"null", nil, "is not an object of verbs"},
		{"all", map[string]any{"all": list("**")}, `has the verb "all"`},
		{"an unknown verb", map[string]any{"read": list("**")}, `has the verb "read"`},
		{"no list", map[string]any{"subscribe": "**"}, "has no list of patterns for subscribe"},
		{"a number", map[string]any{"subscribe": list(7)}, "has a pattern for subscribe that is not a string"},
		{"no pattern", map[string]any{"subscribe": list("a**")}, "** stands alone"},
		{"a placeholder", map[string]any{"subscribe": list("{user}")}, "not a channel name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadGrants(tt.claim)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	g, err := ReadGrants(map[string]any{"subscribe": list("a/**", "b")})
	if err != nil {
		t.Fatal(err)
	}
	p, who := new(Policy), &Caller{Grants: g}
	if !p.Somewhere(who, Subscribe) || p.Somewhere(who, Publish) {
		t.Error("Somewhere does not go by the grants")
	}
	for name, want := range map[string]bool{"a": true, "a/b/c": true, "a/**": true, "b": true, "b/c": false, "**": false} {
		if got := p.Decide(who, Subscribe, name).Allowed; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
