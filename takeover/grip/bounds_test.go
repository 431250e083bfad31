package grip

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/access"
)

// A short text with many directives does not become one that fills the memory.
func TestATemplateBecomesSoLongAtMost(t *testing.T) {
	subs := newSubscriptions(&Instruct{Meta: map[string]string{"x": strings.Repeat("v", maxMetaBytes)}})
	if out, err := subs.substitute(nil, []byte(strings.Repeat("%(x)s", 100))); err != nil || len(out) != 100*maxMetaBytes {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	for name, template := range map[string]string{"many": strings.Repeat("%(x)s", 100_000), "one at the end": strings.Repeat("x", maxExpanded) + "%(x)s"} {
		if out, err := subs.substitute(nil, []byte(template)); err == nil || !strings.Contains(err.Error(), "more than 2097152 bytes") {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
}

// Answers to a stream whose client takes nothing do not pile up.
func TestASlowClientGetsNoMoreAnswers(t *testing.T) {
	s := newSession(&Instruct{Next: "/next"}, access.AnonymousCaller(), slog.New(slog.DiscardHandler))
	for n := range 4 {
		if !s.answered(nil, make([]byte, maxAnswer)) {
			t.Fatalf("answer %d finds no room", n+1)
		}
	}
	if s.answered(nil, make([]byte, maxAnswer)) {
		t.Errorf("%d bytes wait", len(s.out))
	}
	if out, _ := s.Rewrite(nil, nil); len(out) != 4*maxAnswer {
		t.Errorf("it gets %d bytes", len(out))
	}
	if !s.answered(nil, make([]byte, maxPagesBytes+1)) {
		t.Error("one that has taken all gets no more")
	}
}
