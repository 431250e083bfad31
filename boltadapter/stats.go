package boltadapter

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// counters are the running numbers of a Log. Log.mu guards them.
type counters struct {
	commits, syncs, entries, written, dropped uint64
	committing                                time.Duration
	opened, loadTime                          time.Duration
	loaded                                    uint64
}

// Stats are figures of a Log.
type Stats struct {
	Path     string
	Size     int64 // of the directory: SegmentBytes and MetaBytes
	Segments int
	// SegmentBytes is the size of all segments. MetaBytes is that of meta.db, and
	// MetaFree what of it holds nothing: Compact gives it back.
	SegmentBytes, MetaBytes, MetaFree int64
	Retained                          int // entries in the segments
	Queued                            int // operations that wait to be stored
	Last                              broker.ID

	// Since the log was opened: Commits, the Syncs of files for them, the Entries that
	// were stored and the bytes Written for them, the segments that were Dropped, and how
	// long commits took altogether.
	Commits, Syncs, Entries, Written, Dropped uint64
	Committing                                time.Duration

	// Opened is how long it took to open the files and to check them; Loaded how many
	// entries the follower was given, and LoadTime how long that took.
	Opened, LoadTime time.Duration
	Loaded           uint64

	// Failed is why nothing is stored any more; nil while all is well. Full is why the
	// last commit found no room; nil if it found some.
	Failed, Full error
}

// Stats returns the figures of now. Before Start and after Close those of files are zero.
func (l *Log) Stats() Stats {
	s := Stats{Path: l.path, Queued: l.queue.Ops()}
	if l.phase.Load() == phaseOpen {
		l.committing.Lock()
		s.Last = l.decider.Last()
		l.committing.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.SegmentBytes, s.MetaBytes, s.MetaFree = l.size, l.dbSize, l.dbFree
	s.Size = s.SegmentBytes + s.MetaBytes
	for _, c := range l.chains {
		s.Segments += len(c.segments)
		for _, seg := range c.segments {
			s.Retained += seg.entries
		}
	}
	n := &l.stats
	s.Commits, s.Syncs, s.Entries, s.Written, s.Dropped, s.Committing = n.commits, n.syncs, n.entries, n.written, n.dropped, n.committing
	s.Opened, s.LoadTime, s.Loaded = n.opened, n.loadTime, n.loaded
	s.Failed, s.Full = l.failed, l.full
	return s
}
