package evstream

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// definedProblems finds the status of each problem by its name, where it is
// defined: either as {400, "name", "title"}, or as Kind = "name" and, for that
// constant, {400, "title"}.
func definedProblems(t *testing.T) map[string]string {
	t.Helper()
	var code []byte
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		code = append(code, text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]string{}
	for _, m := range regexp.MustCompile(`\{([45]\d\d), "([a-z-]+)", "[^"]+"\}`).FindAllSubmatch(code, -1) {
		defined[string(m[2])] = string(m[1])
	}
	status := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+): +\{([45]\d\d), "[^"]+"\}`).FindAllSubmatch(code, -1) {
		status[string(m[1])] = string(m[2])
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) +Kind = "([a-z-]+)"$`).FindAllSubmatch(code, -1) {
		defined[string(m[2])] = status[string(m[1])]
	}
	if len(defined) < 30 {
		t.Fatalf("only %d problems are found in the code", len(defined))
	}
	return defined
}

// TestTheHTTPPageNamesEveryProblem compares the table of errors with the code.
func TestTheHTTPPageNamesEveryProblem(t *testing.T) {
	defined := definedProblems(t)
	page, err := os.ReadFile("docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([45]\\d\\d) \\|").FindAllSubmatch(page, -1)
	documented := map[string]string{}
	for _, m := range rows {
		documented[string(m[1])] = string(m[2])
	}
	for name, status := range defined {
		if documented[name] != status {
			t.Errorf("%s is %s, and on the page %q", name, status, documented[name])
		}
	}
	for name := range documented {
		if defined[name] == "" {
			t.Errorf("%s is on the page, and nowhere else", name)
		}
	}
}
