package origins

import (
	"strings"
	"testing"
)

func TestOriginsThatAreRefused(t *testing.T) {
	for _, origin := range []string{
		"", "example.com", "https://", "https://example.com/", "https://example.com/app",
		"https://example.com?x", "https://user@example.com", "*.example.com", "https://exa mple.com",
		"https://*", "https://*.com", "https://*.com.", "https://*example.com", "https://a.*.example.com", "https://*.*.example.com",
		"*://example.com", "https://*.example.com/", "https://*.example.com:*", "http*://*.example.com", "https://*.", "https://a*.example.com",
	} {
		if _, err := New([]string{origin}); err == nil || !strings.Contains(err.Error(), "example.com") {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

func TestABrowsersOwnCredentialsAreAmbient(t *testing.T) {
	for line, want := range map[string]bool{
		"Authorization: Basic eDp5": true, "Authorization: Bearer x": false, "Cookie: a=b": true, "X: y": false,
	} {
		r := write("")
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
		if got := ambient(r); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestPortsOfThisMachineAndPagesWithoutAnOrigin(t *testing.T) {
	c, err := New([]string{"http://localhost:*", "https://[::1]:*", "null"})
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]bool{
		"http://localhost:3000": true, "http://localhost": true, "http://localhost:1": true, "https://[::1]:8443": true, "null": true,
		"https://localhost:3000": false, "http://localhost:": false, "http://localhost:x": false, "http://localhost:99999": false,
		"http://localhost:03000": false, "http://localhost:3000.evil.example": false, "http://localhost.evil.example": false,
		"http://localhost3000": false, "http://127.0.0.1:3000": false, "Null": false, "": false,
	} {
		if got := c.open(origin); got != want {
			t.Errorf("%q: %v", origin, got)
		}
		if want && c.origins[origin] {
			t.Errorf("%q may call with credentials", origin)
		}
	}
	for _, bad := range []string{"http://example.com:*", "ftp://localhost:*", "http://localhost:3*", "http://*.localhost:*", "localhost:*"} {
		if _, err := New([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
