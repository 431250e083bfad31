package floors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Two hubs in one process must not share state, so no package below the root has
// a variable that changes.
func TestNoPackageBelowTheRootHasMutableState(t *testing.T) {
	root := filepath.Join("..", "..")
	watch(t, root)
	exports, pkgs := exported(t, root)
	checked := 0
	for _, p := range pkgs {
		dir, ok := strings.CutPrefix(p.ImportPath, module+"/")
		if !ok || within(dir, aboveRoot) || len(p.GoFiles) == 0 {
			continue
		}
		checked++
		fset := token.NewFileSet()
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		for _, found := range mutable(t, fset, p.ImportPath, files, exports) {
			t.Errorf("%s: %s", dir, found)
		}
	}
	if checked < 15 {
		t.Errorf("only %d packages were checked", checked)
	}
}

// TestMutableStateIsFound tests mutable.
func TestMutableStateIsFound(t *testing.T) {
	exports, _ := exported(t, filepath.Join("..", ".."))
	for _, tt := range []struct {
		name, code string
		bad        bool
	}{
		{"a table", `var table = map[string]int{"a": 1}; func f() int { return table["a"] }`, false},
		{"an error", `import "errors"; var errA = errors.New("a")`, false},
		{"a pool of buffers", `import "sync"; var buffers = sync.Pool{}; func f() { buffers.Put(nil) }`, false},
		{"a local of the same name", `var n = 1; func f() { n := 2; n++; _ = n }`, false},
		{"a counter", `var n int; func f() { n++ }`, true},
		{"an assignment", `var n int; func f() { n = 2 }`, true},
		{"an assignment to a field", `var s struct{ n int }; func f() { s.n = 2 }`, true},
		{"an entry of a map", `var m = map[int]int{}; func f() { m[1] = 2 }`, true},
		{"a removal from a map", `var m = map[int]int{}; func f() { delete(m, 1) }`, true},
		{"its address is taken", `var n int; func f() *int { return &n }`, true},
		{"a mutex", `import "sync"; var mu sync.Mutex`, true},
		{"a mutex in a struct", `import "sync"; var s struct { mu sync.Mutex }`, true},
		{"an atomic", `import "sync/atomic"; var n atomic.Int64`, true},
		{"a value that is made once", `import "sync"; var key = sync.OnceValue(func() int { return 1 })`, true},
		{"a chan", `var c = make(chan int)`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, "x.go", "package x\n"+tt.code, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := mutable(t, fset, "x", []*ast.File{f}, exports); (len(got) > 0) != tt.bad {
				t.Errorf("got %q", got)
			}
		})
	}
}

// built is what `go list -export -json` says of a package.
type built struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// buildFlags are those that this test was built with, so that nothing has to be
// compiled for it.
var buildFlags []string

// exported lists the packages of this module, and the files with the compiler's
// export data of all packages that they depend on.
func exported(t *testing.T, dir string) (exports map[string]string, ours []built) {
	t.Helper()
	args := append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}, buildFlags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./httpapi", "./hooks", "./state", "./redisadapter", "./cli/...", "sync/atomic")...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	exports = make(map[string]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p built
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return exports, ours
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, module) {
			ours = append(ours, p)
		}
	}
}

// mutable lists the package variables that are changed, or whose type is mutable.
func mutable(t *testing.T, fset *token.FileSet, path string, files []*ast.File, exports map[string]string) (found []string) {
	t.Helper()
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object), Defs: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	pkg, err := config.Check(path, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	global := func(e ast.Expr) types.Object {
		for {
			switch x := e.(type) {
			case *ast.Ident:
				if v, ok := info.Uses[x].(*types.Var); ok && v.Parent() == pkg.Scope() {
					return v
				}
				return nil
			case *ast.SelectorExpr:
				e = x.X
			case *ast.IndexExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			default: // what a pointer points to is another variable
				return nil
			}
		}
	}
	note := func(e ast.Expr, what string) {
		if v := global(e); v != nil && v.Type().String() != "sync.Pool" {
			found = append(found, fmt.Sprintf("%s: %s %s", fset.Position(e.Pos()), v.Name(), what))
		}
	}
	for _, name := range pkg.Scope().Names() {
		if v, ok := pkg.Scope().Lookup(name).(*types.Var); ok {
			if what := stateful(v.Type(), 0); what != "" {
				found = append(found, fmt.Sprintf("%s: %s holds a %s", fset.Position(v.Pos()), name, what))
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					note(to, "is assigned to")
				}
			case *ast.IncDecStmt:
				note(n.X, "is counted")
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					note(n.X, "has its address taken")
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") && len(n.Args) > 0 {
					note(n.Args[0], "is changed by "+f.Name)
				}
			case *ast.ValueSpec:
				for _, value := range n.Values {
					if call, ok := value.(*ast.CallExpr); ok && isOnce(call) && info.Defs[n.Names[0]].Parent() == pkg.Scope() {
						found = append(found, fmt.Sprintf("%s: %s is made once, when it is first needed", fset.Position(n.Pos()), n.Names[0].Name))
					}
				}
			}
			return true
		})
	}
	return found
}

// isOnce reports whether a call is of sync.OnceFunc or its kind.
func isOnce(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "sync" && strings.HasPrefix(sel.Sel.Name, "Once")
}

// stateful returns the mutable type that t contains, "" if there is none. A
// sync.Pool does not count, because its contents are not observable.
func stateful(t types.Type, depth int) string {
	if named, ok := t.(*types.Named); ok && named.Obj().Pkg() != nil {
		switch path := named.Obj().Pkg().Path(); {
		case path == "sync/atomic", path == "sync" && named.Obj().Name() != "Pool":
			return named.Obj().Pkg().Name() + "." + named.Obj().Name()
		case path == "sync":
			return ""
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Chan:
		return "chan"
	case *types.Struct:
		for field := range u.Fields() {
			if depth < 4 {
				if what := stateful(field.Type(), depth+1); what != "" {
					return what
				}
			}
		}
	case *types.Array:
		return stateful(u.Elem(), depth+1)
	}
	return ""
}
