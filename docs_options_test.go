package evstream

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// jsonFields are the names that a configuration has in JSON, in whatever depth,
// as far as they are declared here.
func jsonFields(t reflect.Type, into map[string]bool, seen map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		jsonFields(t.Elem(), into, seen)
		return
	case reflect.Struct:
	default:
		return
	}
	if seen[t] || t.PkgPath() != reflect.TypeFor[App]().PkgPath() {
		return
	}
	seen[t] = true
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name != "" {
			into[name] = true
		}
		jsonFields(f.Type, into, seen)
	}
}

// optionTables are the rows of the reference that say what an option is in a
// Caddyfile, and what in JSON.
func optionTables(t *testing.T) (rows [][]string) {
	t.Helper()
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case line == "| Caddyfile | JSON | default | meaning |\n":
			inside = true
		case !inside || strings.HasPrefix(line, "|---"):
		case len(cells) != 4:
			t.Errorf("a row of %d cells: %s", len(cells), line)
		default:
			for i, cell := range cells {
				if cells[i] = strings.TrimSpace(cell); cells[i] == "" {
					t.Errorf("an empty cell: %s", line)
				}
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) < 50 {
		t.Fatalf("%s has %d rows about options", reference, len(rows))
	}
	return rows
}

var quoted = regexp.MustCompile("`([^`]+)`")

func TestTheReferenceNamesEveryFieldOfTheJSON(t *testing.T) {
	fields, seen := map[string]bool{}, map[reflect.Type]bool{}
	for _, config := range []reflect.Type{
		reflect.TypeFor[App](), reflect.TypeFor[BrokerConfig](), reflect.TypeFor[Handler](),
		reflect.TypeFor[MemoryAdapter](), reflect.TypeFor[BoltAdapter](), reflect.TypeFor[RedisAdapter](),
	} {
		jsonFields(config, fields, seen)
	}
	named := map[string]bool{}
	for _, cells := range optionTables(t) {
		for _, name := range quoted.FindAllStringSubmatch(cells[1], -1) {
			named[name[1]] = true
		}
	}
	for name := range fields {
		// "brokers" is in the text: it holds the tables.
		if !named[name] && name != "brokers" {
			t.Errorf("%s is not in the reference", name)
		}
	}
	for name := range named {
		if !fields[name] {
			t.Errorf("%s is in the reference, and nowhere else", name)
		}
	}
}

// subdirectives are the words that functions of this package which read a
// Caddyfile know: the cases of their switches.
func subdirectives(t *testing.T) map[string]bool {
	t.Helper()
	words := map[string]bool{}
	for _, file := range sources(t, ".") {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			f, ok := n.(*ast.FuncDecl)
			if !ok {
				return true
			}
			if readsCaddyfile(f) {
				ast.Inspect(f, func(n ast.Node) bool {
					if c, ok := n.(*ast.CaseClause); ok {
						for _, e := range c.List {
							if s, ok := e.(*ast.BasicLit); ok && s.Kind == token.STRING {
								word, _ := strconv.Unquote(s.Value)
								words[word] = true
							}
						}
					}
					return true
				})
			}
			return false
		})
	}
	return words
}

// readsCaddyfile reports whether a function is given a Dispenser.
func readsCaddyfile(f *ast.FuncDecl) bool {
	return slices.ContainsFunc(f.Type.Params.List, func(p *ast.Field) bool {
		star, ok := p.Type.(*ast.StarExpr)
		if !ok {
			return false
		}
		name, ok := star.X.(*ast.SelectorExpr)
		return ok && name.Sel.Name == "Dispenser"
	})
}

// sources are the Go files of a directory, without tests.
func sources(t *testing.T, dir string) (files []string) {
	t.Helper()
	found, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if !strings.HasSuffix(file, "_test.go") {
			files = append(files, dir+"/"+file)
		}
	}
	return files
}

func TestTheReferenceNamesEverySubdirective(t *testing.T) {
	named := map[string]bool{}
	for _, cells := range optionTables(t) {
		for _, code := range quoted.FindAllStringSubmatch(cells[0], -1) {
			word, _, _ := strings.Cut(code[1], " ")
			named[word] = true
		}
	}
	words := subdirectives(t)
	for _, word := range []string{"adapter", "allow", "audience", "heartbeat", "max_states", "prefix", "server_name", "state_ttl"} {
		if !words[word] {
			t.Errorf("%s is not found in the code", word)
		}
	}
	for _, word := range slices.Sorted(maps.Keys(words)) {
		if !named[word] {
			t.Errorf("%s is not in the reference", word)
		}
	}
}
