package errkind_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

type declared interface {
	error
	ProblemKind() string
	MetricReason() string
	ProblemDetail() string
}

func TestAWrappedErrorSaysItsKind(t *testing.T) {
	full := errkind.New("overloaded", "max_things", "too many things")
	gone := errkind.Opaque("unavailable", "", "it is out of reach")
	for name, row := range map[string]struct {
		err                  error
		kind, reason, detail string
	}{
		"itself":            {full, "overloaded", "max_things", ""},
		"wrapped":           {fmt.Errorf("%w: at most 3", full), "overloaded", "max_things", ""},
		"opaque":            {fmt.Errorf("%w: dial 10.0.0.1", gone), "unavailable", "", "it is out of reach"},
		"the outermost":     {fmt.Errorf("%w: %w", gone, full), "unavailable", "", "it is out of reach"},
		"the outermost too": {fmt.Errorf("%w: %w", full, gone), "overloaded", "max_things", ""},
	} {
		got, ok := errors.AsType[declared](row.err)
		if !ok {
			t.Errorf("%s: nothing is declared", name)
			continue
		}
		if got.ProblemKind() != row.kind || got.MetricReason() != row.reason || got.ProblemDetail() != row.detail {
			t.Errorf("%s: got %q, %q, %q", name, got.ProblemKind(), got.MetricReason(), got.ProblemDetail())
		}
	}
}

func TestErrorsAreComparedByIdentity(t *testing.T) {
	one, other := errkind.New("k", "r", "text"), errkind.New("k", "r", "text")
	if errors.Is(one, other) || !errors.Is(fmt.Errorf("wrapped: %w", one), one) {
		t.Error("errors of equal text are taken for each other")
	}
	if one.Error() != "text" {
		t.Errorf("got %q", one)
	}
}
