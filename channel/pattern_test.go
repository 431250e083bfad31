package channel

import (
	"regexp"
	"strings"
	"testing"
)

func TestPatternsMatch(t *testing.T) {
	for _, row := range []struct {
		pattern string
		yes, no string
	}{
		{"a", "a a/", "b a/b A"},
		{"a/b", "a/b a/ a/b/", "a b/ a/b/c a/c/ ab"},
		{"*", "a a.b a/", "a/b"},
		{"match.*", "match.7 match.", "match a/match.7 match"},
		{"*.*", "a.b . a..b", "ab"},
		{"a/*", "a/b a/ a/b/", "a a/b/c b/"},
		{"a/**", "a a/ a/b a/b/ a/b/c", "ab b a2/b"},
		{"a/*/**", "a/b a/b/c a/", "a b/c"},
		{"**", "a a/ a/b/c", ""},
		{"*/x", "a/x a/ b/", "a x x/y/"},
		{"a*b*c", "abc aXbYc abbc", "ac abcd"},
	} {
		p, err := ParsePattern(row.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(row.yes) {
			if !p.Match(name) {
				t.Errorf("%s does not match %s", p, name)
			}
		}
		for name := range strings.FieldsSeq(row.no) {
			if p.Match(name) {
				t.Errorf("%s matches %s", p, name)
			}
		}
	}
}

// All short segments of two letters, against regular expressions.
func TestASegmentMatchesAsARegularExpressionDoes(t *testing.T) {
	words := func(letters string, n int) (all []string) {
		all = []string{""}
		for i := 0; i < len(all); i++ {
			for _, c := range letters {
				if word := all[i] + string(c); len(word) <= n {
					all = append(all, word)
				}
			}
		}
		return all
	}
	segments := words("ab", 5)
	for _, pattern := range words("ab*", 5) {
		if strings.Contains(pattern, "**") {
			continue
		}
		expr := regexp.MustCompile("^" + strings.ReplaceAll(pattern, "*", ".*") + "$")
		for _, segment := range segments {
			if got := matchSegment(pattern, segment); got != expr.MatchString(segment) {
				t.Errorf("%q matches %q: %v", pattern, segment, got)
			}
		}
	}
}

func TestPatternsContain(t *testing.T) {
	for _, row := range []struct {
		p, q string
		want bool
	}{
		{"**", "**", true},
		{"**", "a/b", true},
		{"a/**", "a/**", true},
		{"a/**", "a", true},
		{"a/**", "a/*/c/**", true},
		{"a/*", "a/b*", true},
		{"match.*", "match.1*", true},
		{"a*b", "a*c*b", true},
		{"a*c*b", "a*b", false},
		{"a*", "*", false},
		{"a/*", "a/**", false},
		{"a/*", "a", false},
		{"a/b", "a/*", false},
		{"*", "**", false},
		{"a/**", "**", false},
		{"a/**", "*/b", false},
		{"a/b/**", "a/**", false},
	} {
		p, _ := ParsePattern(row.p)
		q, _ := ParsePattern(row.q)
		if p.Contains(q) != row.want {
			t.Errorf("%s contains %s: %v, want %v", p, q, !row.want, row.want)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"a", "a/**", "*/x", "**", "a*b*c/d", "match.*", "a//b", "a**"} {
		f.Add(s, "a/x", "a/*")
	}
	f.Fuzz(func(t *testing.T, pattern, name, other string) {
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		if CheckTarget(name) == nil && p.Match(name) != naiveMatch(pattern, name) {
			// The oracle tries a few channels beneath a name only.
			if !IsBeneath(name) || !p.Match(name) {
				t.Errorf("%q matches %q: %v", pattern, name, p.Match(name))
			}
		}
		q, err := ParsePattern(other)
		if err != nil || !p.Contains(q) {
			return
		}
		for _, fill := range []string{"", "x", "_"} {
			name := strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(other, "**", "y"), "*", fill), "/")
			if Check(name) == nil && q.Match(name) && !p.Match(name) {
				t.Errorf("%q contains %q, but does not match %q", pattern, other, name)
			}
		}
	})
}

// naiveMatch decides by a regular expression, and for a name beneath by trying
// some channels that lie there.
func naiveMatch(pattern, name string) bool {
	expr := regexp.QuoteMeta(pattern)
	switch {
	case expr == `\*\*`:
		return true
	case strings.HasSuffix(expr, `/\*\*`):
		expr = strings.TrimSuffix(expr, `/\*\*`) + `(/.*)?`
	}
	re := regexp.MustCompile("^" + strings.ReplaceAll(expr, `\*`, `[^/]*`) + "$")
	prefix, beneath := strings.CutSuffix(name, "/")
	if !beneath || re.MatchString(prefix) {
		return re.MatchString(prefix)
	}
	for _, tail := range []string{"x", "y", "1", "2", "x/1", "x/x"} {
		if re.MatchString(prefix + "/" + tail) {
			return true
		}
	}
	return false
}

func TestWhatAPatternSelectsLiesAtItsPrefix(t *testing.T) {
	for _, row := range []struct {
		pattern, prefix string
		simple          bool
	}{
		{"**", "", false},
		{"*", "", false},
		{"a*", "", false},
		{"a*/**", "", false},
		{"a/**", "a", true},
		{"a/*", "a", true},
		{"users/ada/**", "users/ada", true},
		{"a/b*", "a", false},
		{"a/*b", "a", false},
		{"a/*/c", "a", false},
		{"a/*/**", "a", false},
		{"a/b/c*d/e", "a/b", false},
		{"a/b", "", false},
	} {
		p, err := ParsePattern(row.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if p.Prefix() != row.prefix || p.IsSimple() != row.simple {
			t.Errorf("%s has the prefix %q, simple: %v; want %q, %v", row.pattern, p.Prefix(), p.IsSimple(), row.prefix, row.simple)
		}
	}
}
