package docs

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The commands of docs/performance.md take minutes: what they name is there.
func TestPerformancePageNamesWhatIsThere(t *testing.T) {
	scenarios, err := os.ReadFile("bench/scenarios.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fences(t, "docs/performance.md") {
		if f.lang != "sh" {
			continue
		}
		for line := range strings.Lines(f.text) {
			command, _, _ := strings.Cut(strings.TrimSpace(line), "#")
			arguments, ok := strings.CutPrefix(command, "make ")
			if !ok {
				t.Errorf("%s: %q is not known here", f, line)
				continue
			}
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", "make -n "+arguments).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", f, command, err, out)
			}
			chosen := regexp.MustCompile(`^make bench BENCH=(\S+)`).FindStringSubmatch(command)
			if chosen != nil && !regexp.MustCompile(`name:\s+"`+chosen[1]+`"`).Match(scenarios) {
				t.Errorf("%s: there is no scenario %s", f, chosen[1])
			}
		}
	}
}
