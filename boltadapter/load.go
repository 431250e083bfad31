package boltadapter

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// What was retained is read from the newest entry to the oldest, so that the readers that
// come back first, from a moment before, are served first.

// How many entries the follower is given at once, and of which size in all: few at first,
// and then more, because it puts the entries of a channel together.
const (
	firstStep      = 1 << 12
	firstStepBytes = 1 << 20
	maxStep        = 1 << 16
)

// progressEvery is how often the log says how far it is read.
const progressEvery = time.Second

// loading is how far the segments are read for the follower.
type loading struct {
	began       atomic.Bool
	done, total atomic.Int64 // bytes
}

func (g *loading) begin(readers []*reader) {
	total := int64(0)
	for _, r := range readers {
		for _, s := range r.segments {
			total += s.size
		}
	}
	g.done.Store(0)
	g.total.Store(total)
	g.began.Store(true)
}

// Loaded returns how many bytes of what was retained the follower has, and of how many:
// as many when it has all. Until there is a follower, total is -1.
func (l *Log) Loaded() (done, total int64) {
	if !l.loading.began.Load() {
		return 0, -1
	}
	return l.loading.done.Load(), l.loading.total.Load()
}

// giveOlder gives f all entries of the readers, the newest first.
func (l *Log) giveOlder(ctx context.Context, readers []*reader, f broker.Follower) (n int, err error) {
	if len(readers) == 0 {
		return 0, nil
	}
	var batch []broker.Entry // the newest first
	step, stepBytes, size, said := firstStep, firstStepBytes, 0, time.Now()
	for {
		next, err := newest(readers)
		if err != nil {
			return n, err
		}
		if next == nil || len(batch) >= step || size >= stepBytes {
			if ctx.Err() != nil {
				return n, ctx.Err()
			}
			slices.Reverse(batch)
			if next == nil {
				l.loading.done.Store(l.loading.total.Load())
				f.Older(batch, broker.ID{})
				return n, nil
			}
			f.Older(batch, next.head().id)
			clear(batch)
			batch, size = batch[:0], 0
			if step < maxStep {
				step, stepBytes = 2*step, 2*stepBytes
			}
			l.loading.done.Store(readOf(readers))
			if now := time.Now(); now.Sub(said) >= progressEvery {
				said = now
				l.logger.Info("loading the log", slog.String("path", l.path), slog.Int("entries", n), slog.Int64("bytes", readOf(readers)), slog.Int64("of", l.loading.total.Load()))
			}
		}
		rec := next.take()
		n++
		if rec.entryKind() != broker.KindNotice { // those were of nodes that ran then
			batch, size = append(batch, rec.decodeEntry()), size+len(rec.entry)
		}
	}
}

// newest is the reader that has the newest entry, nil if none is left.
func newest(readers []*reader) (next *reader, err error) {
	for _, r := range readers {
		if err := r.fill(); err != nil {
			return nil, err
		}
		if len(r.index) > 0 && (next == nil || r.head().id.After(next.head().id)) {
			next = r
		}
	}
	return next, nil
}

func readOf(readers []*reader) (bytes int64) {
	for _, r := range readers {
		bytes += r.read
	}
	return bytes
}

// reader reads the entries of a chain from the newest to the oldest, a segment at a time.
type reader struct {
	disk     fileSystem
	segments []stretch // that are still to be read, the oldest first
	buf      []byte
	index    []entryRecord // of what is in buf and was not taken, the oldest first
	size     int64         // of the segment in buf
	read     int64         // bytes of all before
}

// stretch is a segment as it was when the follower began.
type stretch struct {
	*segment
	size int64
}

// entryRecord is a recordEntry.
type entryRecord struct {
	id    broker.ID
	owner broker.Owner
	entry []byte
}

func newReader(files fileSystem, c *chain) *reader {
	r := &reader{disk: files}
	for _, s := range c.segments {
		if s.entries > 0 {
			r.segments = append(r.segments, stretch{s, s.size})
		}
	}
	return r
}

// fill reads on until there is an entry, or none is left.
func (r *reader) fill() error {
	for len(r.index) == 0 {
		r.read, r.size = r.read+r.size, 0
		if len(r.segments) == 0 {
			r.buf = nil
			return nil
		}
		if err := r.open(); err != nil {
			return err
		}
	}
	return nil
}

// open reads the next segment.
func (r *reader) open() error {
	s := r.segments[len(r.segments)-1]
	r.segments = r.segments[:len(r.segments)-1]
	f, err := r.disk.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if int64(cap(r.buf)) < s.size {
		r.buf = make([]byte, s.size)
	}
	if r.buf, err = readFile(f, r.buf[:s.size]); err != nil {
		return err
	}
	r.size = s.size
	for offset := int64(headerSize); offset < s.size; {
		_, records, ok := nextFrame(r.buf[offset:], &s.header, offset)
		if !ok {
			return &DamageError{s.path, offset, "the frame is not as it was when the log was opened"}
		}
		if err := eachRecord(records, func(rec *record) error {
			if rec.kind == recordEntry {
				r.index = append(r.index, entryRecord{rec.id, rec.owner, rec.entry})
			}
			return nil
		}); err != nil {
			return &DamageError{s.path, offset, err.Error()}
		}
		offset += frameHeader + int64(len(records))
	}
	return nil
}

// head is the next entry. There must be one.
func (r *reader) head() *entryRecord { return &r.index[len(r.index)-1] }

// take is the next entry, up to the next fill. There must be one.
func (r *reader) take() record {
	e := *r.head()
	r.index = r.index[:len(r.index)-1]
	return record{kind: recordEntry, id: e.id, owner: e.owner, entry: e.entry}
}
