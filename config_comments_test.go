package evstream

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// The comments of the configuration's fields are its manual, which Caddy's site shows:
// each says what the field means, and what holds where it is left out.
func TestEveryFieldOfTheConfigurationIsExplained(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			body, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range body.Fields.List {
				if f.Tag == nil || len(f.Names) == 0 || !f.Names[0].IsExported() {
					continue
				}
				tag, err := strconv.Unquote(f.Tag.Value)
				if err != nil {
					t.Fatal(err)
				}
				if key := reflect.StructTag(tag).Get("json"); key == "" || key == "-" {
					continue
				}
				fields++
				text := f.Doc.Text() + f.Comment.Text()
				at := fset.Position(f.Pos())
				switch {
				case len(strings.Fields(text)) < 4:
					t.Errorf("%s: %s.%s has no comment that explains it", at, spec.Name, f.Names[0])
				case !strings.Contains(text, "Default") && !strings.Contains(text, "default") && !strings.Contains(text, "Required") && !strings.Contains(text, "required"):
					t.Errorf("%s: the comment of %s.%s says neither what its default is nor that it is required", at, spec.Name, f.Names[0])
				}
			}
			return true
		})
	}
	if fields < 80 {
		t.Errorf("only %d fields were looked at", fields)
	}
}
