package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// indexes are the pages that list all others, with how they name those of docs.
var indexes = map[string]string{"docs/README.md": "](%s)", "llms.txt": "](docs/%s)"}

// TestTheIndexesNameEveryPage sees to it that a page that is added is found, and that what
// they name is there.
func TestTheIndexesNameEveryPage(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 20 {
		t.Fatalf("only %d pages, %v", len(pages), err)
	}
	for index, link := range indexes {
		text, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range pages {
			if named := strings.Replace(link, "%s", filepath.Base(file), 1); file != index && !strings.Contains(string(text), named) {
				t.Errorf("%s does not name %s", index, file)
			}
		}
		for _, m := range regexp.MustCompile(`\]\(([^()\s#]+)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(index), m[1])); err != nil && !strings.Contains(m[1], "://") {
				t.Errorf("%s: %v", index, err)
			}
		}
	}
}

// TestTheListForModelsHasItsShape looks at what llms.txt is to begin with: a title, a summary
// in one paragraph, and lists of links with a line each.
func TestTheListForModelsHasItsShape(t *testing.T) {
	text, err := os.ReadFile("llms.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`\A# evstream\n\n> [^\n]+\n\n`).Match(text) {
		t.Error("it begins with no title and summary")
	}
	link := regexp.MustCompile(`^- \[[^\]]+\]\([^()\s]+\): .+$`)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "- ") && !link.MatchString(line) {
			t.Errorf("%q is no link with a line", line)
		}
	}
}
