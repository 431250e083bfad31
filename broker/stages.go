package broker

import "errors"

// ErrNotReached is the error of an operation that was not decided, because one of an
// earlier Stage of the same Append was refused; or because Publish could not append it
// together with those before it: then it may be published now.
var ErrNotReached = errors.New("the operation was not reached")

// stages follows how far the stages of an Append are decided.
type stages struct {
	refused bool // an operation of a stage was
	stage   int  // the first of which that is true
}

// over reports whether the operation i is not to be decided, because of the results
// before it.
func (s *stages) over(ops []Op, results []Result, i int) bool {
	if i > 0 && !s.refused && results[i-1].Err != nil {
		s.refused, s.stage = true, ops[i-1].Stage
	}
	return s.refused && ops[i].Stage > s.stage
}

// isStaged reports whether operations have more stages than one.
func isStaged(ops []Op) bool { return len(ops) > 1 && ops[len(ops)-1].Stage > ops[0].Stage }

// endOfStage is the index behind the operations of the first stage.
func endOfStage(ops []Op) int {
	end := 1
	for end < len(ops) && ops[end].Stage == ops[0].Stage {
		end++
	}
	return end
}

// beforeRefused returns how many operations belong to stages before the one that err is
// about. Where there are none, or it is about no operation, it returns err.
func beforeRefused(ops []Op, err error) (int, error) {
	refused, ok := errors.AsType[*OpError](err)
	if !ok || ops[refused.Index].Stage == ops[0].Stage {
		return 0, err
	}
	n := refused.Index
	for ops[n-1].Stage == ops[refused.Index].Stage {
		n--
	}
	return n, nil
}

// notReached adds the results of operations that were left, up to n results.
func notReached(results []Result, n int) []Result {
	for len(results) < n {
		results = append(results, Result{Err: ErrNotReached})
	}
	return results
}
