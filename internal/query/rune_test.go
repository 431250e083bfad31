package query

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorsQuoteWholeRunes(t *testing.T) {
	_, err := Query("poll="+strings.Repeat("a", 62)+strings.Repeat("%F0%9F%8F%86", 9)).Flag("poll", false)
	if err == nil || !utf8.ValidString(err.Error()) || strings.Contains(err.Error(), `\x`) {
		t.Errorf("got %v", err)
	}
}
