package channel

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestNamesAreChecked(t *testing.T) {
	for _, row := range []struct {
		name            string
		channel, target bool
	}{
		{"a", true, true},
		{"football/arsenal-vs-chelsea", true, true},
		{"A.z_0~9-:@!$'()=+&", true, true},
		{"a_/_b", true, true},
		{strings.Repeat("a", 255), true, true},
		{"a/", false, true},
		{strings.Repeat("a", 255) + "/", false, true},
		{strings.Repeat("a", 256), false, false},
		{"", false, false},
		{"/", false, false},
		{"a//b", false, false},
		{"a//", false, false},
		{"/a", false, false},
		{".", false, false},
		{"a/../b", false, false},
		{"_hub", false, false},
		{"_hub/a", false, false},
		{"a b", false, false},
		{"a\x00", false, false},
		{"é", false, false},
		{"a*", false, false},
		{"**", false, false},
	} {
		for what, check := range map[string]struct {
			err  error
			want bool
		}{"Check": {Check(row.name), row.channel}, "CheckTarget": {CheckTarget(row.name), row.target}} {
			if (check.err == nil) != check.want {
				t.Errorf("%s(%q): %v", what, row.name, check.err)
			}
			if check.err != nil && !errors.Is(check.err, ErrName) {
				t.Errorf("%s(%q): %v is not ErrName", what, row.name, check.err)
			}
		}
	}
}

func TestNamesBeneathReachChannels(t *testing.T) {
	if got, want := slices.Collect(Reaching("a/b/c")), []string{"a/b/c/", "a/b/", "a/"}; !slices.Equal(got, want) {
		t.Errorf("a/b/c is reached by %q, want %q", got, want)
	}
	for beneath := range Reaching("a/b/c") {
		if !IsBeneath(beneath) || !Reaches(beneath, "a/b/c") {
			t.Errorf("%s does not reach a/b/c", beneath)
		}
	}
	for _, name := range []string{"ab", "b/a", "A/b"} {
		if Reaches("a/", name) {
			t.Errorf("a/ reaches %s", name)
		}
	}
}

func TestPatternsOverlap(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a/*", "a/b", true},
		{"a/*", "b/*", false},
		{"a*", "*b", true},
		{"a/**", "a", true},
		{"a/**", "*/b/c", true},
		{"a/b", "a/b/c", false},
		{"**", "a/b", true},
		{"**", "a//b", false},
	} {
		if Overlap(row.a, row.b) != row.want || Overlap(row.b, row.a) != row.want {
			t.Errorf("%s and %s overlap: %v, want %v", row.a, row.b, !row.want, row.want)
		}
	}
}
