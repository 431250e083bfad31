package problem

import (
	"strings"
	"testing"
)

func TestClippedTextEndsWithAWholeRune(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{strings.Repeat("é", 32), strings.Repeat("é", 32)},
		{strings.Repeat("é", 33), strings.Repeat("é", 32) + "…"},
		{"a" + strings.Repeat("é", 33), "a" + strings.Repeat("é", 31) + "…"},
		{"aaa" + strings.Repeat("🏆", 33), "aaa" + strings.Repeat("🏆", 15) + "…"},
		{strings.Repeat("\x80", 70), "…"},
	} {
		if got := Clip(tt.in); got != tt.want {
			t.Errorf("Clip(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
