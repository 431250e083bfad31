package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/internal/histogram"
)

// publishResults are what becomes of an operation that is published.
var publishResults = [...]string{
	resultStored:      "stored",
	resultRepeated:    "repeated",
	resultUnchanged:   "unchanged",
	resultConflict:    "conflict",
	resultClosed:      "closed",
	resultKey:         "key_reused",
	resultLimit:       "limit",
	resultInvalid:     "invalid",
	resultFull:        "full",
	resultUnavailable: "unavailable",
	resultUncertain:   "uncertain",
	resultCanceled:    "canceled",
	resultOther:       "other",
}

const (
	resultStored = iota
	resultRepeated
	resultUnchanged
	resultConflict
	resultClosed
	resultKey
	resultLimit
	resultInvalid
	resultFull
	resultUnavailable
	resultUncertain
	resultCanceled
	resultOther
)

// PublishStats are the figures of what was published on this node, since the broker was
// started.
type PublishStats struct {
	// Results counts operations by what became of them: it has a key for each result.
	Results map[string]uint64
	// Bytes are those of the data that was stored.
	Bytes uint64
	// Appends is how long the log took each time.
	Appends histogram.Counts
}

// PublishStats returns the figures of what was published on this node. What the hub
// itself publishes is in Appends alone.
func (b *Broker) PublishStats() PublishStats {
	p := &b.publishes
	s := PublishStats{Results: make(map[string]uint64, len(publishResults)), Bytes: p.bytes.Load(), Appends: p.appends.Counts()}
	for i, name := range publishResults {
		s.Results[name] = p.results[i].Load()
	}
	return s
}

// publishes counts what this node has asked its log for.
type publishes struct {
	results [len(publishResults)]atomic.Uint64
	bytes   atomic.Uint64 // of data that was stored
	appends histogram.Durations
}

// count counts operations, which Publish was called with, by what became of them. The
// hub's own are not counted.
func (p *publishes) count(ops []Op, results []Result, err error) {
	if err != nil {
		if n := ownless(ops); n > 0 {
			p.results[resultOf(err)].Add(n)
		}
		return
	}
	var counts [len(publishResults)]uint64
	bytes := 0
	for i := range results {
		op, r := &ops[i], &results[i]
		if isOwn(op) || errors.Is(r.Err, ErrNotReached) {
			continue
		}
		result := resultStored
		switch {
		case r.Err != nil:
			result = resultOf(r.Err)
		case r.Repeated:
			result = resultRepeated
		case r.Unchanged:
			result = resultUnchanged
		default:
			if bytes += len(op.Event.Data); op.State != nil {
				bytes += len(op.State.Value)
			}
		}
		counts[result]++
	}
	for result, n := range counts {
		if n > 0 {
			p.results[result].Add(n)
		}
	}
	if bytes > 0 {
		p.bytes.Add(uint64(bytes))
	}
}

// isOwn reports whether an operation is the hub's own.
func isOwn(op *Op) bool {
	return op.Kind == KindNotice || op.Kind == KindState && isFact(op.Channel)
}

// ownless is how many operations are not the hub's own.
func ownless(ops []Op) (n uint64) {
	for i := range ops {
		if !isOwn(&ops[i]) {
			n++
		}
	}
	return n
}

// resultOf is what an error makes of an operation. An error of a check comes before the
// log was asked.
func resultOf(err error) int {
	kind := ""
	if e, ok := errors.AsType[interface {
		error
		ProblemKind() string
	}](err); ok {
		kind = e.ProblemKind()
	}
	switch kind {
	case "precondition-failed", "conflict", "contended":
		return resultConflict
	case "closed":
		return resultClosed
	case "key-reused":
		return resultKey
	case "overloaded", "share", "state-full":
		return resultLimit
	case "log-full":
		return resultFull
	case "unavailable":
		return resultUnavailable
	case "uncertain":
		return resultUncertain
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return resultCanceled
	}
	if _, ok := errors.AsType[*OpError](err); ok {
		return resultInvalid
	}
	return resultOther
}

// appended appends to the log, and notes how long it took.
func (b *Broker) appended(ctx context.Context, ops []Op) ([]Result, error) {
	began := time.Now()
	results, err := b.log.Append(ctx, ops)
	b.publishes.appends.Observe(time.Since(began))
	return results, err
}
