package stream

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheModelSeesABrokenWriter breaks the code that writes streams, in one place
// at a time, and runs the model test on it, which must fail.
func TestTheModelSeesABrokenWriter(t *testing.T) {
	if os.Getenv("EVSTREAM_MUTANT") != "" {
		return // this is the run on a mutant
	}
	for name, mutant := range map[string]struct{ mode, file, old, new string }{
		"the rest of a write is dropped":    {"detached", "detached.go", "d.rest.copyOf(c)", "d.rest.clear()"},
		"the rest is another stream's":      {"detached", "detached.go", "d.rest.pieces[2] = batch.Keep(d.rest.pieces[2])", "_ = batch"},
		"the size is another chunk's":       {"detached", "chunk.go", "c.pieces[0] = append(c.size[:0], other.pieces[0]...)", "_ = other"},
		"a stall hides what came meanwhile": {"detached", "detached.go", "s.state.atHead = false // what woke", "_ = s //"},
		"room is not told to the writer":    {"detached", "detached.go", "d.writable.Store(true)\n\td.wake(true)", "d.writable.Store(true)"},
		"a worker writes another's bytes":   {"taken", "taken.go", "if !c.resting {", "if false {"},
		"a wake-up while it writes is lost": {"attached", "attached.go", "if a.state.CompareAndSwap(busy, idle) {", "if a.state.Store(idle); true {"},
		"no gap is announced":               {"attached", "state.go", "if batch.Gap != nil {", "if batch.Gap != nil && false {"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(mutant.file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(source), mutant.old) != 1 {
				t.Fatalf("%s does not have %q once", mutant.file, mutant.old)
			}
			dir := t.TempDir()
			broken := filepath.Join(dir, mutant.file)
			if err := os.WriteFile(broken, []byte(strings.Replace(string(source), mutant.old, mutant.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			original, err := filepath.Abs(mutant.file)
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
			cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-ldflags=-s -w", "-timeout=10s", "-run", "^TestModel$/seed=1/"+mutant.mode, "-overlay", file, ".")
			cmd.Env = append(os.Environ(), "EVSTREAM_MUTANT=1")
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("the model passes:\n%s", out)
			} else if !strings.Contains(string(out), "--- FAIL: TestModel") {
				t.Errorf("the model did not run: %v\n%s", err, out)
			}
		})
	}
}
