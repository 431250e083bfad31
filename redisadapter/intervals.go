package redisadapter

import "time"

// intervals are the times between what a node does periodically. Only tests
// have others than defaultIntervals.
type intervals struct {
	// beat is the time between two beats: each renews the lease of this node,
	// and compares what it has applied with what the primary has.
	beat time.Duration
	// lease is how long a node is a member after a beat, and fresh how long the
	// answer to a beat is trusted. Their sum is below ten seconds, which
	// broker.Cluster promises.
	lease, fresh time.Duration
	// trim is the time between two trims of the streams. One of the nodes does
	// it for all.
	trim time.Duration
}

var defaultIntervals = intervals{
	beat:  2 * time.Second,
	lease: 7 * time.Second,
	fresh: 2500 * time.Millisecond,
	trim:  5 * time.Second,
}
