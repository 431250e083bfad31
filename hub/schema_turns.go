package hub

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/problem"
)

// schemaTurns bounds how much data is checked against schemas at once, so that a
// core is left for what has no schema, and for streams: the validator cannot be
// interrupted. Over the bound checks wait for their turn, and over the bound on those
// that wait they are refused. It is safe for concurrent use.
type schemaTurns struct {
	running chan struct{}
	waiting atomic.Int32
	most    int32 // that wait
}

// maxSchemaWaiting is how many checks may wait for each that runs: each holds what was
// sent to be published.
const maxSchemaWaiting = 64

func newSchemaTurns(cores int) *schemaTurns {
	n := max(cores-1, 1)
	return &schemaTurns{running: make(chan struct{}, n), most: int32(n * maxSchemaWaiting)}
}

// acquire waits for a turn, which release ends. The errors are those of ctx and a
// problem.Overloaded.
func (s *schemaTurns) acquire(ctx context.Context) error {
	select {
	case s.running <- struct{}{}:
		return nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.most {
		return refuseEvent(problem.Overloaded, "schema", "%d publishes wait already to be checked against a schema", s.most)
	}
	select {
	case s.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *schemaTurns) release() { <-s.running }

// taken reports whether acquire would have to wait.
func (s *schemaTurns) taken() bool { return len(s.running) == cap(s.running) }

// maxUnique bounds how many arrays and objects an array may have in it, in data that is
// checked against a schema with uniqueItems. The validator compares those of the same
// hash with each other, and arrays of strings can be made to have the same. What bounds
// all else is the number of steps: see stepCount.
const maxUnique = 1000

// hasLongArray reports whether an array in a JSON value is beyond maxUnique.
func hasLongArray(value any) bool {
	switch v := value.(type) {
	case []any:
		n := 0
		for _, element := range v {
			switch element.(type) {
			case []any, map[string]any:
				n++
			}
			if n > maxUnique || hasLongArray(element) {
				return true
			}
		}
	case map[string]any:
		for _, member := range v {
			if hasLongArray(member) {
				return true
			}
		}
	}
	return false
}

// hasUniqueItems reports whether a JSON Schema says somewhere that elements must differ.
func hasUniqueItems(schema any) bool {
	switch v := schema.(type) {
	case []any:
		if slices.ContainsFunc(v, hasUniqueItems) {
			return true
		}
	case map[string]any:
		if v["uniqueItems"] == true {
			return true
		}
		for _, member := range v {
			if hasUniqueItems(member) {
				return true
			}
		}
	}
	return false
}
