package broker

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/mutation"
)

// TestTheModelSeesABrokenGapCheck breaks what decides about gaps, one way at a
// time, and runs the model on it, which must fail.
func TestTheModelSeesABrokenGapCheck(t *testing.T) {
	for name, mutant := range map[string]struct{ file, old, new string }{
		"no gap on resume":           {"start.go", "if p.feed.trimmed.After(id) {", "if _ = p; false {"},
		"every resume is a gap":      {"start.go", "if p.feed.trimmed.After(id) {", "if _ = p; true {"},
		"no gap for a slow reader":   {"cursor.go", "lost = lost || p.feed.trimmed.After(p.from)", "_ = lost"},
		"a foreign cursor is good":   {"start.go", "case b.issued.has(id):", "case true:"},
		"trimming is not remembered": {"history.go", "h.trimmed = id", "_ = id"},
		"an event is skipped":        {"history.go", "place{p.seg, max(p.i, p.seg.after(id, n))}", "place{p.seg, max(p.i, min(n, 1+p.seg.after(id, n)))}"},

		"what is unread is let go of":    {"refill.go", "|| !p.passed(p.oldest.first+uint64(n)) {", "{"},
		"more is let go of than is told": {"refill.go", "p.complete = latest(p.complete, last)", "_ = last"},
		"a refill begins too late":       {"refill_steps.go", "at.seg.after(r.from, at.n); first > at.i", "at.seg.after(ID{r.from.Ms, r.from.N + 1}, at.n); first > at.i"},
		"a refill forgets what is lost":  {"refill_steps.go", "r.older.lose(f.trimmed)", "_ = f"},

		"a patch follows anything":       {"state_deliver.go", "patch && (batch.Decode || !l.base.After(s.values.lacks()))", "patch && batch.Decode"},
		"a value is told twice":          {"state_deliver.go", "case v.id.After(w.to):", "case false:"},
		"who fell behind is not told":    {"cursor.go", "b.catchUp(s, s.names)", "b.skipChanges(s)"},
		"a join forgets what is pending": {"state_snapshot.go", "if s.hasChanges() && !b.catchUp(s, others) {", "if false {"},
		"a name joins too late":          {"start.go", "r := resolved{kind: startAfter, after: here}", "r := resolved{kind: startNow}"},
		"who comes back is told it all":  {"state_snapshot.go", "from = r.after\n", "_ = r.after\n"},
		"a lost value is not told":       {"state.go", "t.gone.raise(c.name, next.id)", "_ = next.id"},
		"what is not the newest is told": {"state_deliver.go", "case superseded && (", "case false && superseded && ("},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mutation.Kills(t, "^TestModel$", mutant.file, mutant.old, mutant.new)
		})
	}
}
