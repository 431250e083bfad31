package docs

import (
	"os"
	"strings"
	"testing"
)

func TestTheProxiesPageIsTrue(t *testing.T) { page(t, "docs/proxies.md") }

// throughHAProxy fails the test if these are not the settings through which the tests of
// clients (make clients) go, but for the addresses.
func throughHAProxy(t *testing.T, f fence) {
	t.Helper()
	program, err := os.ReadFile("clients/proxies.go")
	if err != nil {
		t.Fatal(err)
	}
	settings := strings.NewReplacer("bind :80\n", "bind %s\n", "server caddy 127.0.0.1:8080\n", "server caddy %s\n").Replace(f.text)
	if strings.Count(settings, "%s") != 2 || !strings.Contains(string(program), "`\n"+settings+"`") {
		t.Errorf("%s: clients/proxies.go has other settings", f)
	}
}
