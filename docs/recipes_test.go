package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheRecipesAreTrue(t *testing.T) { page(t, "docs/recipes.md") }

// recipe fails the test if no file that the tests of clients (make clients) run has this.
func recipe(t *testing.T, f fence) {
	t.Helper()
	ending := map[string]string{"html": "html", "php": "php", "ruby": "rb"}[f.lang]
	files, err := filepath.Glob("clients/other/*." + ending)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files of %s: %v", f, ending, err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains("\n"+string(text), "\n"+f.text) {
			return
		}
	}
	t.Errorf("%s: no file of clients/other has this", f)
}

// python runs a program, which finds the hub and its secret in the environment.
func (d *document) python(t *testing.T, f fence) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", "-c", f.text)
	cmd.Env = append(os.Environ(), "EVSTREAM_URL=http://"+d.site+"/live")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", f, err, out)
	}
}
