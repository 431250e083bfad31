package stream

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/mutation"
)

// TestTheModelSeesABrokenWriter breaks the code that writes streams, in one place
// at a time, and runs the model test on it, which must fail.
func TestTheModelSeesABrokenWriter(t *testing.T) {
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
			mutation.Kills(t, "^TestModel$/seed=1/"+mutant.mode, mutant.file, mutant.old, mutant.new)
		})
	}
}
