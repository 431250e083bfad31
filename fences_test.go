package evstream

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every Caddyfile of the documentation works as it stands there.
func TestCaddyfilesOfTheDocumentationAdaptAndProvision(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	more, err := filepath.Glob("docs/*.md")
	if err != nil || len(more) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	pages = append(pages, more...)
	t.Setenv("EVSTREAM_TOKEN", "secret")
	t.Setenv("EVSTREAM_JWT_KEY", "a secret of at least 32 bytes, for tests")
	t.Setenv("REDIS_PASSWORD", "a password")
	t.Setenv("EVSTREAM_HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	t.Setenv("GRIP_KEY", "a-key-of-the-tests")
	fence := regexp.MustCompile("(?ms)^```caddyfile[^\n]*\n(.*?)^```$")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, found := range fence.FindAllSubmatch(text, -1) {
			t.Run(fmt.Sprintf("%s/%d", page, i+1), func(t *testing.T) {
				if err := validate(t, string(found[1])); err != nil {
					t.Errorf("%v, in\n%s", err, found[1])
				}
			})
		}
	}
}
