package access

import (
	"slices"
	"testing"

	"github.com/evstream/caddy-evstream/channel"
)

func TestPatternsDecideAsThePolicyDoes(t *testing.T) {
	p, err := NewPolicy([]Rule{
		{Who: Anyone, Do: []string{Subscribe}, Channels: []string{"**"}},
		{Who: AnyUser, Do: []string{UseSessions, Publish}, Channels: []string{"users/{user}/**", "orgs/{claims.org}"}},
		{Who: "backend", Do: []string{Everything}, Channels: []string{"rooms/*"}},
	}, []string{"backend"}, true)
	if err != nil {
		t.Fatal(err)
	}
	grants, err := ReadGrants(map[string]any{"session": []any{"desk/**"}, "publish": []any{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		who  *Caller
		want []string
	}{
		{AnonymousCaller(), nil},
		{&Caller{User: "alice"}, []string{"users/alice/**"}},
		{&Caller{User: "alice", Claims: map[string]any{"org": "acme"}}, []string{"users/alice/**", "orgs/acme"}},
		{&Caller{User: "a/b", Grants: grants}, []string{"desk/**"}},
		{&Caller{Name: "backend"}, []string{"rooms/*"}},
	} {
		got := p.Patterns(tt.who, UseSessions)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.who, got, tt.want)
		}
		for _, name := range []string{"users/alice/1", "users/alice/**", "users/bob", "users/*/1", "orgs/acme", "desk/1", "rooms/1", "rooms/*", "rooms/**", "**"} {
			wanted, err := channel.ParsePattern(name)
			if err != nil {
				t.Fatal(err)
			}
			within := slices.ContainsFunc(got, func(s string) bool {
				pattern, err := channel.ParsePattern(s)
				return err == nil && pattern.Contains(wanted)
			})
			if decided := p.Decide(tt.who, UseSessions, name).Allowed; decided != within {
				t.Errorf("%s, %s: decided %t, by patterns %t", tt.who, name, decided, within)
			}
		}
	}
	if got := AllowAll().Patterns(AnonymousCaller(), UseSessions); !slices.Equal(got, []string{"**"}) {
		t.Errorf("got %q", got)
	}
}
