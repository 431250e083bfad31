package boltadapter

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/evstream/caddy-evstream/broker"
)

// What is not done by commits: to write the values into meta.db, and to remove segments.

const (
	// upkeepEvery is how often the log looks whether there is something to do, and how
	// long changes of values wait at most to be written into meta.db.
	upkeepEvery = time.Second
	// markEvery is how often the mark moves if no value changes.
	markEvery = 10 * time.Second
	// liveAge is how long what no history keeps stays on the disk.
	liveAge = time.Minute
	// maxDropped bounds the segments that one round removes.
	maxDropped = 16
	// maxTransaction bounds the rows of one transaction, in bytes.
	maxTransaction = 1 << 20
)

func (l *Log) kickUpkeep() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// upkeepLoop works on meta.db and removes segments, until the log is closed or has
// failed.
func (l *Log) upkeepLoop() {
	ticker := time.NewTicker(upkeepEvery)
	defer ticker.Stop()
	full := false
	for {
		select {
		case <-ticker.C:
		case <-l.kick:
		case <-l.ctx.Done():
			return
		}
		err := l.round()
		l.lookForRoom()
		switch {
		case l.failure() != nil:
			return
		case err == nil:
			full = false
		case isFull(err):
			if !full {
				l.logger.Error("there is no room for the values of the log: trying again until there is", slog.String("path", l.path), slog.Any("error", err))
			}
			full = true
		default:
			l.committing.Lock()
			l.fail(fmt.Errorf("writing meta.db: %w", err))
			l.committing.Unlock()
			return
		}
	}
}

// round is one round of upkeep.
func (l *Log) round() error {
	l.upkeep.Lock()
	defer l.upkeep.Unlock()
	doomed := l.doom()
	l.committing.Lock()
	changed := len(l.dirty) > 0
	moved := l.commits != l.mark.Commit
	l.committing.Unlock()
	since := l.now().UnixMilli() - int64(l.marked) // below 0 when the clock went back
	due := moved && (since >= markEvery.Milliseconds() || since < 0)
	if len(doomed) == 0 && !changed && !due {
		return nil
	}
	if err := l.checkpoint(false); err != nil {
		l.pardon(doomed)
		return err
	}
	return l.drop(doomed)
}

// doom takes segments out of their chains that nobody needs: the mark covers them, they
// are past retention, and no idempotency key in them can be asked for. Log.upkeep is
// held.
func (l *Log) doom() (doomed []*segment) {
	l.committing.Lock()
	defer l.committing.Unlock()
	retain := l.config.Load().Retain
	now := max(uint64(max(l.now().UnixMilli(), 0)), l.decider.Last().Ms)
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.size
	for len(doomed) < maxDropped {
		var oldest *chain
		for _, c := range l.chains {
			if s := c.oldestFree(l.mark.Chains[c.name()], l.now()); s == nil || l.needsPurge(c, s) {
				continue
			}
			switch s := c.segments[0]; {
			case c.isPast(s, now):
				oldest = c
			case size > retain && len(c.segments) > 1 && (oldest == nil || oldest.segments[0].newest.After(s.newest)):
				oldest = c
				continue
			default:
				continue
			}
			break
		}
		if oldest == nil {
			break
		}
		s := oldest.segments[0]
		if len(oldest.segments) == 1 {
			_ = oldest.close() // it is removed: what Close says of it does not matter
		}
		oldest.segments = oldest.segments[1:]
		oldest.lost = later(oldest.lost, s.event)
		doomed = append(doomed, s)
		size -= s.end
	}
	l.size = size
	return doomed
}

func (c *chain) name() string { return hex.EncodeToString(c.hash[:]) }

// oldestFree is the oldest segment, if all of it is covered by the mark and it has no key
// that can be asked for. A key of a time to come, because the clock was set back, is taken
// for one of now, as broker.Decider does. Log.mu is held.
func (c *chain) oldestFree(row chainMark, now time.Time) *segment {
	if len(c.segments) == 0 {
		return nil
	}
	s := c.segments[0]
	if s.keysAt.After(now) {
		s.keysAt = now
	}
	if s.number > row.Number || s.number == row.Number && s.size > row.Size || now.Sub(s.keysAt) < broker.KeyWindow {
		return nil
	}
	return s
}

// closeAge is how long what closed a channel is kept at least: a channel without a history,
// or with a short one, is closed for longer than its events are kept.
const closeAge = time.Hour

// isPast reports whether all entries of a segment are past the age of their policy.
func (c *chain) isPast(s *segment, now uint64) bool {
	age := c.policy.Age
	if c.policy == (broker.Policy{}) {
		age = liveAge
	}
	if !s.closes.IsZero() && s.closes.Ms+uint64(closeAge.Milliseconds()) >= now {
		return false
	}
	return s.entries > 0 && age > 0 && s.newest.Ms+uint64(age.Milliseconds()) < now
}

// needsPurge reports whether a segment has the removal of what another chain may still
// have: it would come back. Log.mu is held.
func (l *Log) needsPurge(c *chain, s *segment) bool {
	if s.purge.IsZero() {
		return false
	}
	for _, other := range l.chains {
		if other != c && len(other.segments) > 0 && other.segments[0].entries > 0 && s.purge.After(other.segments[0].oldest) {
			return true
		}
	}
	return false
}

// pardon puts doomed segments back, because the mark could not be written.
func (l *Log) pardon(doomed []*segment) {
	l.committing.Lock()
	defer l.committing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range slices.Backward(doomed) {
		c := l.chains[s.policy]
		c.segments = append([]*segment{s}, c.segments...)
		l.size += s.end
	}
}

// drop removes the files of doomed segments.
func (l *Log) drop(doomed []*segment) error {
	dirs := map[string]struct{}{}
	for _, s := range doomed {
		if err := l.disk.Remove(s.path); err != nil {
			return err
		}
		dirs[filepath.Dir(s.path)] = struct{}{}
	}
	for dir := range dirs {
		if err := l.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.stats.dropped += uint64(len(doomed))
	l.mu.Unlock()
	return nil
}

// row is a change of the rows of one name.
type row struct {
	name    []byte
	value   []byte // nil: none
	removed []byte // nil: not removed
}

// checkpoint writes the values that changed since the mark into meta.db, and moves the
// mark. Log.upkeep is held.
func (l *Log) checkpoint(clean bool) error {
	l.committing.Lock()
	next, rows := l.nextMark(clean)
	dirty := l.dirty
	l.dirty = make(map[string]struct{}, len(dirty)/2)
	l.committing.Unlock()
	err := l.writeMark(next, rows)
	if err != nil {
		l.committing.Lock()
		for name := range dirty {
			l.dirty[name] = struct{}{}
		}
		l.committing.Unlock()
		return err
	}
	l.marked = uint64(max(l.now().UnixMilli(), 0))
	l.measure()
	return nil
}

// nextMark is the mark of now, and what changed since the last one. Log.upkeep and
// Log.committing are held.
func (l *Log) nextMark(clean bool) (mark, []row) {
	m := mark{
		Clean: clean, NoSync: l.config.Load().NoSync || l.noSync && !clean,
		Last: markID(l.decider.Last()), Commit: l.commits, Rules: l.rules, Mixed: markID(l.mixed),
		Forgot: markID(l.removed.forgot), Void: l.mark.Void, Chains: map[string]chainMark{},
	}
	rows := make([]row, 0, len(l.dirty))
	for name := range l.dirty {
		r := row{name: []byte(name)}
		if s := l.decider.State(name); s.Value != nil {
			v := value{State: s, owner: l.owners[name]}
			r.value = v.encode(r.name)
		}
		if id, ok := l.removed.byName[name]; ok && r.value == nil {
			r.removed = sealed(r.name, appendID(nil, id))
		}
		rows = append(rows, r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.chains {
		if c.number == 0 {
			continue
		}
		row := chainMark{
			Events: c.policy.Events, Age: c.policy.Age, Bytes: c.policy.Bytes,
			Lost: markID(c.lost), First: c.first(), Number: c.number, Frame: c.frame,
		}
		if s := c.newest(); s != nil {
			row.Size = s.size
		}
		m.Chains[c.name()] = row
	}
	return m, rows
}

// writeMark writes rows, in transactions that are bounded, and with the last one the
// mark. In between the mark is that of before, with the sums of what is there.
func (l *Log) writeMark(next mark, rows []row) error {
	if next.NoSync && next.Clean {
		// What was written without a sync must be there when the mark says so.
		if err := l.syncAll(); err != nil {
			return err
		}
		next.NoSync = false
	}
	for {
		n, size := 0, 0
		for n < len(rows) && size < maxTransaction {
			size += len(rows[n].value) + len(rows[n].name) + 64
			n++
		}
		var written mark
		err := update(l.db, func(tx *bolt.Tx) error {
			var old mark // read anew: a transaction that failed may have been written
			if err := getJSON(tx, rowMark, &old); err != nil {
				return err
			}
			for _, r := range rows[:n] {
				if err := errors.Join(
					put(tx, bucketValues, &old.Values, r.name, r.value),
					put(tx, bucketRemoved, &old.Removed, r.name, r.removed),
				); err != nil {
					return err
				}
			}
			if written = old; n == len(rows) {
				written = next
				written.Values, written.Removed = old.Values, old.Removed
			}
			return putJSON(tx, rowMark, written)
		})
		if err != nil {
			return err
		}
		if l.mark = written; n == len(rows) {
			return nil
		}
		rows = rows[n:]
	}
}

// syncAll syncs the newest segments. The older ones were synced when they were closed.
func (l *Log) syncAll() error {
	l.committing.Lock()
	defer l.committing.Unlock()
	for _, c := range l.chains {
		if c.open != nil {
			if err := c.open.Sync(); err != nil {
				return err
			}
		}
	}
	l.noSync = false
	return nil
}
