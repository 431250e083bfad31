package evstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Attacks by addresses that clients claim to have. The server of these tests trusts a
// proxy on the same host, as README had it, without trusted_proxies_strict.

// Whoever begins X-Forwarded-For with 127.0.0.1 was limited by nothing.
func TestALoopbackAddressThatIsForwardedIsLimited(t *testing.T) {
	e := servers[0].start(t, func(c *siteConfig) {
		c.handler.OnOverload = "503"
		c.broker.MaxConnectionsPerIP = 2
	})
	for _, claimed := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8", "127.0.0.1, 127.0.0.1"} {
		attack := "X-Forwarded-For: " + claimed + ", 203.0.113.9"
		var held []*blockReader
		for range 2 {
			s := openStream(t, e, "/live/public/a", attack)
			s.opened()
			held = append(held, s)
		}
		for _, path := range []string{"/live/public/a", "/live/public/a?poll=1"} {
			wantProblem(t, ask(t, e, request{"GET", path, []string{attack}, ""}), 429, "too-many-connections")
		}
		wantProblem(t, ask(t, e, request{"GET", "/live/public/a", []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 203.0.113.9"}, ""}), 429, "too-many-connections")
		for _, honest := range []string{"X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 127.0.0.1", "Accept: */*"} {
			s := openStream(t, e, "/live/public/a", honest)
			s.opened()
			held = append(held, s)
		}
		for _, s := range held {
			s.cancel()
		}
		eventually(t, "the streams to end", func() bool { return len(e.hub.Sessions()) == 0 })
	}
}

// The operator is told that clients can claim to have any address.
func TestTrustedProxiesThatAreNotStrictAreWarnedOf(t *testing.T) {
	for strict, want := range map[string]int{"": 1, "\n\t\ttrusted_proxies_strict": 0} {
		file, address := filepath.Join(t.TempDir(), "log"), freeAddress(t)
		load(t, site(address, "\tlog {\n\t\toutput file "+file+"\n\t}\n\tservers {\n\t\ttrusted_proxies static private_ranges"+strict+"\n\t}", "\t\tallow anyone subscribe **"))
		for range 2 {
			send(t, "GET", "http://"+address+"/live/a?poll=1", "")
		}
		log, err := os.ReadFile(file)
		if n := strings.Count(string(log), "trusted_proxies_strict is not"); err != nil || n != want {
			t.Errorf("with%q: %d warnings, want %d, %v", strict, n, want, err)
		}
	}
}
