package doctor

import (
	"os"
	"strings"
	"testing"
)

// Every check is explained, and every proxy whose settings are known is there.
func TestEveryCheckIsExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range checks() {
		if !strings.Contains(string(text), "\n| `"+check+"` |") {
			t.Errorf("%s is not explained", check)
		}
	}
	proxies, err := os.ReadFile("../../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{fixBuffering, fixIdle, fixRequest, fixHTTP10} {
		for _, fix := range remedies(kind) {
			if !strings.Contains(string(text)+string(proxies), fix.In) {
				t.Errorf("the page has nothing about %s", fix.In)
			}
		}
	}
}
