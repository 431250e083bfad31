package grip

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorsQuoteWholeRunes(t *testing.T) {
	long := strings.Repeat("a", 99) + strings.Repeat("é", 50)
	if got := clip(long); !utf8.ValidString(got) || got != strings.Repeat("a", 99)+"…" {
		t.Errorf("%q", got)
	}
	short := strings.Repeat("é", 50)
	if got := clip(short); got != short {
		t.Errorf("%q", got)
	}
}
