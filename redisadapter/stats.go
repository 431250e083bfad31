package redisadapter

import (
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// Stats are figures of a Log.
type Stats struct {
	// Queued is how many operations wait to be stored.
	Queued int
	// Lag is how much older the newest entry that this node has applied is than that of
	// the primary, at the last beat that was answered. It is 0 where they are the same.
	Lag time.Duration
	// Size is the memory of the streams in Redis, in bytes, when this node has trimmed
	// them last. It is 0 until it has: the nodes take turns.
	Size int64
}

// Stats returns the figures of now. It asks nobody.
func (l *Log) Stats() Stats {
	return Stats{Queued: l.queue.Ops(), Lag: time.Duration(l.figures.lag.Load()), Size: l.figures.size.Load()}
}

// figures are what beats and trims have seen.
type figures struct{ lag, size atomic.Int64 }

// saw notes the newest entry of the primary, and the one that was applied when its answer
// had come.
func (f *figures) saw(newest, applied entry.Point) {
	lag := time.Duration(0)
	if newest.ID.After(applied.ID) {
		lag = max(time.Duration(newest.ID.Ms-applied.ID.Ms)*time.Millisecond, time.Millisecond)
	}
	f.lag.Store(int64(lag))
}
