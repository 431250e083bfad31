package broker

import "testing"

// modelCoverage counts what the runs of the model with several seeds came across: a run
// alone may come across less of something, by chance.
type modelCoverage struct {
	seeds, steps, tight int // tight are the steps with room for few channels
	events, reads       int
	gaps                int
	excused             int // gaps that only floors explain

	told     modelTold
	met      modelMet
	ends     modelEnds
	filtered [2]int // events that a filter kept from a reader, and that passed one
}

// modelTold counts what clients were told.
type modelTold struct{ writes, whole, patched, removed, lagged int }

// modelMet counts clients that came back with a publisher's id, refusals for lack of
// room, histories switched off or on.
type modelMet struct {
	own, switched int
	changes       int            // joins and leaves that readers were told of
	refilled      int            // patterns, for who begins early
	interrupted   int            // refills, by something else
	released      int            // times that a pattern let go of what was read
	refused       map[string]int // by what was asked for
}

// modelEnds counts what became of closed channels.
type modelEnds struct{ closed, again, full, late, purged, over, told, ended int }

// enough fails where the runs came across too little of something to have tested it.
func (c *modelCoverage) enough(t *testing.T) {
	t.Logf("%d seeds, %d events, %d reads, %d gaps, %d of them excused", c.seeds, c.events, c.reads, c.gaps, c.excused)
	t.Logf("%+v %+v %+v", c.told, c.met, c.ends)
	atLeast := func(what string, got, want int) {
		if got < want {
			t.Errorf("the runs did not test %s: it happened %d times of %d", what, got, want)
		}
	}
	atLeast("values", c.told.whole, c.steps/5)
	atLeast("patches", c.told.patched, c.steps/500)
	atLeast("removed values", c.told.removed, c.steps/200)
	atLeast("gaps", c.gaps, c.steps/200)
	atLeast("gaps without an excuse", c.gaps-c.excused, c.gaps/2)
	atLeast("filters that keep events from readers", c.filtered[0], c.steps/50)
	atLeast("filters that let events pass", c.filtered[1], c.steps/50)
	atLeast("publishers' ids", c.met.own, c.steps/500)
	atLeast("policies that change", c.met.switched, c.steps/400)
	atLeast("joins and leaves", c.met.changes, c.steps/100)
	atLeast("refills of patterns", c.met.refilled, c.steps/80)
	atLeast("refills that are interrupted", c.met.interrupted, c.steps/40)
	atLeast("patterns that let go of what was read", c.met.released, c.steps/800)
	for _, what := range []string{"publish", "subscribe", "join"} {
		atLeast("a "+what+" for which there is no room", c.met.refused[what], c.tight/1000)
	}
	atLeast("closed channels", c.ends.closed, c.steps/200)
	atLeast("a channel that is closed again", c.ends.again, c.steps/2000)
	atLeast("what comes too late for a closed channel", c.ends.late, c.steps/100)
	atLeast("purges of closed channels", c.ends.purged, c.steps/500)
	atLeast("readers that are told of a closing", c.ends.told, c.steps/100)
	atLeast("readers whose channels are all closed", c.ends.ended, c.steps/500)
	if c.tight > 0 {
		atLeast("a closing for which there is no room", c.ends.full, 1)
	}
}
