// Package mutation shows that tests see broken code: it breaks the code in one place at a
// time, and runs them on it.
package mutation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// running is set in the environment of tests that run on a mutant.
const running = "EVSTREAM_MUTANT"

// Patience is how long a test waits for what must happen: less for what a mutant has
// never happen.
func Patience(usual time.Duration) time.Duration {
	if os.Getenv(running) != "" {
		return 3 * time.Second
	}
	return usual
}

// Kills runs a test of the package in this directory, which run matches as for `go test
// -run`, on a mutant: it must fail. The mutant has text in place of old, which the file
// has once. On a mutant Kills does nothing.
func Kills(t *testing.T, run, path, old, text string) {
	t.Helper()
	if os.Getenv(running) != "" {
		return
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), old) != 1 {
		t.Fatalf("%s does not have %q once", path, old)
	}
	dir := t.TempDir()
	broken := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(broken, []byte(strings.Replace(string(source), old, text, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: broken}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	// Without the race detector, which would find nothing here and takes its time.
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-ldflags=-s -w", "-failfast", "-timeout=1m", "-run", run, "-overlay", file, ".")
	cmd.Env = append(os.Environ(), running+"=1")
	out, err := cmd.CombinedOutput()
	test, _, _ := strings.Cut(strings.Trim(run, "^"), "/")
	if err == nil {
		t.Errorf("%s passes:\n%s", test, out)
	} else if !strings.Contains(string(out), "--- FAIL: "+strings.Trim(test, "^$")) {
		t.Errorf("%s did not run: %v\n%s", test, err, out)
	}
}
