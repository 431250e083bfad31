package channel

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorsNameWholeRunes(t *testing.T) {
	for name, want := range map[string]string{
		"match.⚽":  `'⚽' is not allowed`,
		"match.🏆x": `'🏆' is not allowed`,
		"a\xffb":   `"\xff" is not allowed`,
		strings.Repeat("a", 62) + strings.Repeat("é", 200): `"` + strings.Repeat("a", 62) + `é…"`,
		strings.Repeat("a", 63) + strings.Repeat("é", 200): `"` + strings.Repeat("a", 63) + `…"`,
	} {
		err := Check(name)
		if err == nil || !strings.Contains(err.Error(), want) || !utf8.ValidString(err.Error()) {
			t.Errorf("%q: %v, want part %s", name, err, want)
		}
	}
}
