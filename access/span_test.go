package access

import (
	"slices"
	"testing"
)

func TestSpansHoldAllThatIsAllowed(t *testing.T) {
	names := []string{
		"a", "a!", "a-b", "a/b", "a/b/c", "a0", "ab", "b", "pub.1", "pub.2/x", "pub/1", "public", "public-2", "public/1", "public/1/2", "users", "users/ada",
		"users/ada/news", "users/bob", "users/bob/news", "z",
	}
	for _, tt := range []struct {
		where []string
		want  []Span
	}{
		{[]string{"**"}, []Span{{}}},
		{[]string{"**", "a", "a/**", "*"}, []Span{{}}},
		{[]string{"a"}, []Span{{"a", true}}},
		{[]string{"a", "a", "a/b"}, []Span{{"a", true}, {"a/b", true}}},
		{[]string{"a/**"}, []Span{{"a", true}, {"a/", false}}},
		{[]string{"a/*", "a/b/c"}, []Span{{"a/", false}}},
		{[]string{"a*", "a"}, []Span{{"a", false}}},
		{[]string{"users/{user}/**", "public/**", "pub.*"}, []Span{{"pub.", false}, {"public", true}, {"public/", false}, {"users/ada", true}, {"users/ada/", false}}},
		{[]string{"users/*/news", "z"}, []Span{{"users/", false}, {"z", true}}},
		{[]string{"users/{claims.none}"}, nil},
		{[]string{"*/news", "a"}, []Span{{}}},
	} {
		p, err := NewPolicy([]Rule{{Who: Anyone, Do: []string{Subscribe}, Channels: tt.where}, {Who: Anyone, Do: []string{Publish}, Channels: []string{"**"}}}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		who := &Caller{User: "ada"}
		spans := p.Spans(who, Subscribe)
		if !slices.Equal(spans, tt.want) {
			t.Errorf("%q: %v, want %v", tt.where, spans, tt.want)
		}
		for _, name := range names {
			n := 0
			for _, s := range spans {
				if name == s.Begin || !s.Only && len(name) > len(s.Begin) && name[:len(s.Begin)] == s.Begin {
					n++
				}
			}
			if n > 1 || n == 0 && p.Decide(who, Subscribe, name).Allowed {
				t.Errorf("%q: %d spans have %s", tt.where, n, name)
			}
		}
	}
	grants, err := ReadGrants(map[string]any{Subscribe: []any{"g/*"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPolicy([]Rule{{Who: Anyone, Do: []string{Subscribe}, Channels: []string{"a"}}}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Spans(&Caller{Grants: grants}, Subscribe); !slices.Equal(got, []Span{{"a", true}, {"g/", false}}) {
		t.Errorf("with a grant: %v", got)
	}
	if got := AllowAll().Spans(&Caller{}, Subscribe); !slices.Equal(got, []Span{{}}) {
		t.Errorf("of all: %v", got)
	}
}
