package httpapi

import (
	"strings"
	"testing"
)

func TestOriginsThatAreRefused(t *testing.T) {
	for _, origin := range []string{
		"", "example.com", "https://", "https://example.com/", "https://example.com/app",
		"null", "https://example.com?x", "https://user@example.com", "*.example.com", "https://exa mple.com",
		"https://*", "https://*.com", "https://*.com.", "https://*example.com", "https://a.*.example.com", "https://*.*.example.com",
		"*://example.com", "https://*.example.com/", "https://*.example.com:*", "http*://*.example.com", "https://*.", "https://a*.example.com",
	} {
		if _, err := newCORS([]string{origin}); err == nil || !strings.Contains(err.Error(), "example.com") {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

func TestABrowsersOwnCredentialsAreAmbient(t *testing.T) {
	for line, want := range map[string]bool{
		"Authorization: Basic eDp5": true, "Authorization: Bearer x": false, "Cookie: a=b": true, "X: y": false,
	} {
		if got := ambient(request{"POST", "/", []string{line}, ""}.build()); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
