package evstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A rule for anyone also holds for a request that the handler in front let pass: who
// writes one beside caddy_auth is told, once a handler.
func TestCaddyAuthBesideAnyoneIsWarnedOf(t *testing.T) {
	for name, tt := range map[string]struct {
		block string
		want  int
	}{
		"beside anyone":          {"caddy_auth\nallow user subscribe **\nallow anyone subscribe public/**", 1},
		"beside anyone, twice":   {"caddy_auth\nallow anyone publish a\nallow anyone subscribe a", 1},
		"beside user":            {"caddy_auth\nallow user subscribe **", 0},
		"anyone without another": {"allow anyone subscribe **", 0},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			load(t, site(freeAddress(t), "\tlog {\n\t\toutput file "+file+"\n\t}", tt.block))
			log, err := os.ReadFile(file)
			if n := strings.Count(string(log), `caddy_auth beside \"allow anyone\"`); err != nil || n != tt.want {
				t.Errorf("%d warnings, want %d, %v:\n%s", n, tt.want, err, log)
			}
			if tt.want > 0 && !strings.Contains(string(log), `"mount":"/live"`) {
				t.Errorf("the warning does not name the mount:\n%s", log)
			}
		})
	}
}
