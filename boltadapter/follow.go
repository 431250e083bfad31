package boltadapter

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// loadStep is how many entries the follower is given at once.
const loadStep = 512

// progressEvery is how often the log says how far it is read.
const progressEvery = time.Second

var errFollowed = errors.New("the log has a follower already")

// Follow implements broker.Log. Until all that is retained has been applied, nothing is
// committed.
func (l *Log) Follow(ctx context.Context, f broker.Follower) error {
	if l.phase.Load() == phaseClosed {
		return broker.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	f.Cut(nil)
	ended := func() error {
		if l.phase.Load() == phaseClosed {
			return broker.ErrClosed
		}
		return ctx.Err()
	}
	select {
	case <-l.opened:
	case <-ctx.Done():
		return ended()
	}
	if err := l.attach(ctx, f); err != nil {
		if ctx.Err() != nil {
			return ended()
		}
		return err
	}
	<-ctx.Done()
	l.committing.Lock()
	l.follower = nil
	l.committing.Unlock()
	return ended()
}

// attach applies what is retained, and makes f the follower.
func (l *Log) attach(ctx context.Context, f broker.Follower) error {
	l.upkeep.Lock() // no segment is removed meanwhile
	defer l.upkeep.Unlock()
	l.committing.Lock()
	defer l.committing.Unlock()
	if l.follower != nil {
		return errFollowed
	}
	began := time.Now()
	l.mu.Lock()
	o, readers := l.origin()
	size := l.size
	l.mu.Unlock()
	f.Start(o)
	n, err := l.replay(ctx, readers, f, size)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.stats.loaded, l.stats.loadTime = uint64(n), time.Since(began)
	failed := l.failed
	l.mu.Unlock()
	l.logger.Info("the log is loaded", slog.String("path", l.path), slog.Int("entries", n),
		slog.Int("values", len(o.States)), slog.Duration("after", time.Since(began)))
	f.Ready()
	l.follower = f
	if failed != nil {
		f.Cut(failed)
	}
	return nil
}

// origin is where a follower begins, and what reads the entries from there. Log.mu and
// Log.committing are held.
func (l *Log) origin() (broker.Origin, []*reader) {
	last := l.decider.Last()
	o := broker.Origin{
		Durable: true, Born: l.born, Issued: last, Rules: l.rules, Mixed: l.mixed,
		Lost: map[broker.Policy]broker.ID{}, States: l.decider.States(),
		Removed: map[string]broker.ID{}, Forgot: l.removed.forgot,
	}
	for _, v := range l.mark.Void {
		o.Void = append(o.Void, broker.Span{After: v.After.id(), To: v.To.id()})
	}
	for i := range o.States {
		o.States[i].Owner = l.owners[o.States[i].Channel]
	}
	maps.Copy(o.Removed, l.removed.byName)
	var readers []*reader
	first := last
	for policy, c := range l.chains {
		if !c.lost.IsZero() {
			o.Lost[policy] = c.lost
		}
		if len(c.segments) > 0 {
			readers = append(readers, &reader{disk: l.disk, segments: slices.Clone(c.segments)})
			if s := c.segments[0]; s.entries > 0 && first.After(s.oldest) {
				first = s.oldest
			}
		}
	}
	// The newest position that is known before the first entry.
	o.ID = l.born
	if first == last && !l.retains() {
		o.ID = last
		return o, readers
	}
	for _, c := range l.chains {
		if first.After(c.lost) {
			o.ID = later(o.ID, c.lost)
		}
	}
	return o, readers
}

// retains reports whether any entry is retained. Log.mu is held.
func (l *Log) retains() bool {
	for _, c := range l.chains {
		for _, s := range c.segments {
			if s.entries > 0 {
				return true
			}
		}
	}
	return false
}

// replay gives f all entries of the readers, in the order of their ids.
func (l *Log) replay(ctx context.Context, readers []*reader, f broker.Follower, size int64) (n int, err error) {
	batch := make([]broker.Entry, 0, loadStep)
	said := time.Now()
	for {
		var next *reader
		for _, r := range readers {
			if err := r.fill(); err != nil {
				return n, err
			}
			if id, ok := r.head(); ok {
				if next == nil {
					next = r
				} else if other, _ := next.head(); other.After(id) {
					next = r
				}
			}
		}
		if next == nil {
			break
		}
		if e := next.take(); e.Kind != broker.KindNotice { // those were of nodes that ran then
			batch = append(batch, e)
		}
		if len(batch) < loadStep {
			continue
		}
		f.Apply(batch)
		n += len(batch)
		batch = batch[:0]
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		if now := time.Now(); now.Sub(said) >= progressEvery {
			said = now
			var read int64
			for _, r := range readers {
				read += r.read
			}
			l.logger.Info("loading the log", slog.String("path", l.path), slog.Int("entries", n), slog.Int64("bytes", read), slog.Int64("of", size))
		}
	}
	if len(batch) > 0 {
		f.Apply(batch)
		n += len(batch)
	}
	return n, nil
}

// reader reads the entries of a chain, a segment at a time.
type reader struct {
	disk     fileSystem
	segments []*segment // that are still to be read
	buf      []byte
	seg      *segment // that buf is of
	offset   int64    // of the next frame in buf
	queue    []queued // the entries of a frame
	at       int      // in queue
	read     int64    // bytes
}

// queued is an entry that is not decoded yet: it is in the buffer of its reader.
type queued struct {
	id broker.ID
	record
}

// fill reads on until there is an entry, or none is left.
func (r *reader) fill() error {
	for r.at == len(r.queue) {
		r.queue, r.at = r.queue[:0], 0
		if r.seg == nil || r.offset >= r.seg.size {
			if len(r.segments) == 0 {
				r.seg, r.buf = nil, nil
				return nil
			}
			if err := r.open(); err != nil {
				return err
			}
			continue
		}
		_, records, ok := nextFrame(r.buf[r.offset:], &r.seg.header, r.offset)
		if !ok {
			return &DamageError{r.seg.path, r.offset, "the frame is not as it was when the log was opened"}
		}
		r.offset += frameHeader + int64(len(records))
		r.read += frameHeader + int64(len(records))
		if err := eachRecord(records, func(rec *record) error {
			if rec.kind == recordEntry {
				r.queue = append(r.queue, queued{rec.id, *rec})
			}
			return nil
		}); err != nil {
			return &DamageError{r.seg.path, r.offset, err.Error()}
		}
	}
	return nil
}

// open reads the next segment.
func (r *reader) open() error {
	s := r.segments[0]
	r.segments = r.segments[1:]
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
	r.seg, r.offset = s, headerSize
	return nil
}

// head is the id of the next entry.
func (r *reader) head() (broker.ID, bool) {
	if r.at == len(r.queue) {
		return broker.ID{}, false
	}
	return r.queue[r.at].id, true
}

// take decodes the next entry.
func (r *reader) take() broker.Entry {
	e := r.queue[r.at].decodeEntry()
	r.at++
	return e
}
