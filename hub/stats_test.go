package hub

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

func TestReasonsOfRefusals(t *testing.T) {
	for reason, err := range map[string]error{
		"max_connections_per_ip":   ErrTooManyFromAddress,
		"max_connections_per_user": fmt.Errorf("wrapped: %w", ErrTooManyOfUser),
		"log":                      ErrBehind,
		"max_channels":             problem.Overloaded.Because("%w", broker.ErrTooManyChannels),
		"other":                    errors.New("of no reason"),
	} {
		if got := refusal(err); got != reason {
			t.Errorf("%v is counted as %q, want %q", err, got, reason)
		}
	}
	// That of publishing is none of subscribers.
	if got := refusal(ErrPublishRate); got != "other" {
		t.Errorf("got %q", got)
	}
}

// A reason that an error declares and no list has would be counted as "other",
// or begin without the zero that makes a first one visible.
func TestEachReasonThatIsDeclaredIsListed(t *testing.T) {
	refusals, publishing := RefusalReasons(), PublishRefusalReasons()
	declared := declaredReasons(t)
	for reason, where := range declared {
		if !slices.Contains(refusals, reason) && !slices.Contains(publishing, reason) {
			t.Errorf("%s: the reason %q is in no list", where, reason)
		}
	}
	for _, reason := range slices.Concat(refusals, publishing) {
		if _, ok := declared[reason]; !ok && reason != "other" {
			t.Errorf("nobody declares %q", reason)
		}
	}
	for _, reason := range refusals {
		if slices.Contains(publishing, reason) {
			t.Errorf("%q is in both lists", reason)
		}
	}
	if len(declared) < 15 {
		t.Errorf("only %d reasons were found: %v", len(declared), slices.Sorted(maps.Keys(declared)))
	}
}

// declaredReasons finds the metric reasons that errors of the module declare, and
// where: the second argument of errkind.New, errkind.Opaque and refuseEvent.
func declaredReasons(t *testing.T) map[string]string {
	t.Helper()
	reasons := make(map[string]string)
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err == nil && d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "MetricReason" && !strings.Contains(path, "errkind") {
					t.Errorf("%s declares a reason in a way that this test does not read", files.Position(n.Pos()))
				}
			case *ast.CallExpr:
				if !declaresReason(n.Fun) || len(n.Args) < 3 {
					return true
				}
				literal, ok := n.Args[1].(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: the reason is not written as a literal", files.Position(n.Pos()))
					return true
				}
				reason, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Error(err)
				}
				if reason != "" {
					reasons[reason] = files.Position(n.Pos()).String()
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return reasons
}

// declaresReason reports whether a function's second argument is a reason.
func declaresReason(fun ast.Expr) bool {
	switch fun := fun.(type) {
	case *ast.Ident:
		return fun.Name == "refuseEvent"
	case *ast.SelectorExpr:
		of, ok := fun.X.(*ast.Ident)
		return ok && of.Name == "errkind" && (fun.Sel.Name == "New" || fun.Sel.Name == "Opaque")
	}
	return false
}
