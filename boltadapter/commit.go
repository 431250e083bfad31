package boltadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// part is what one commit writes to one chain.
type part struct {
	chain   *chain
	segment *segment
	frame   []byte
	end     int64 // of the file, with it
	err     error
}

// commitLoop commits what waits until the log is closed. While one commit runs, the
// operations of the next one gather; a lone one is not waited with.
func (l *Log) commitLoop() {
	var batch []*pending
	var last time.Time // when a commit began
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for {
		select {
		case <-l.queue.C:
		case <-l.ctx.Done():
			return
		}
		if wait := l.config.Load().SyncEvery - time.Since(last); wait > 0 && !last.IsZero() {
			pause.Reset(wait)
			select {
			case <-pause.C:
			case <-l.ctx.Done():
				return
			}
		}
		last = time.Now()
		if batch = l.queue.Take(batch[:0]); len(batch) > 0 {
			err := l.commit(batch)
			for _, p := range batch {
				p.done <- err
			}
			clear(batch)
		}
	}
}

// commit decides operations, stores and applies what is to be stored, and returns why
// it did not.
func (l *Log) commit(batch []*pending) error {
	l.committing.Lock()
	defer l.committing.Unlock()
	if err := l.failure(); err != nil {
		return err
	}
	l.out.Reset()
	l.decider.Begin()
	now := l.now()
	for _, p := range batch {
		l.decider.Decide(now, p.ops, p.prepared, p.results, &l.out)
	}
	if len(l.out.Entries)+len(l.out.Keys)+len(l.out.Written) == 0 {
		l.decider.Commit()
		return nil
	}
	rules, mixed := l.rules, l.mixed
	l.encode()
	err := l.write()
	if err != nil {
		l.decider.Rollback()
		l.rules, l.mixed = rules, mixed
		return err
	}
	l.decider.Commit()
	l.settle()
	if len(l.out.Entries) > 0 && l.follower != nil {
		l.follower.Apply(l.out.Entries)
	}
	return nil
}

// partOf is the part of the commit that goes to the chain of a policy.
func (l *Log) partOf(policy broker.Policy) *part {
	for _, p := range l.parts {
		if p.chain.policy == policy {
			return p
		}
	}
	l.mu.Lock()
	c := l.chains[policy]
	if c == nil {
		c = newChain(l.path, policy)
		l.chains[policy] = c
	}
	l.mu.Unlock()
	var p *part
	if n := len(l.parts); n < cap(l.parts) {
		l.parts = l.parts[:n+1]
		p = l.parts[n]
	} else {
		l.parts = append(l.parts, nil)
	}
	if p == nil {
		p = new(part)
		l.parts[len(l.parts)-1] = p
	}
	frame := p.frame[:0]
	if cap(frame) > 2*maxCommitBytes {
		frame = nil // it was an unusual one
	}
	*p = part{chain: c, frame: beginFrame(frame)}
	return p
}

// encode makes the frames of what was decided.
func (l *Log) encode() {
	l.parts = l.parts[:0]
	for i := range l.out.Entries {
		p, op := l.partOf(keptAs(l.out.Ops[i])), l.out.Ops[i]
		if op.Rules != 0 && op.Rules != l.rules {
			before := l.decider.Last()
			p.frame = appendRules(p.frame, before, op.Rules)
			if l.rules != 0 {
				l.mixed = before
			}
			l.rules = op.Rules
		}
		p.frame = appendEntry(p.frame, &l.out.Entries[i])
	}
	for i := range l.out.Keys {
		p := l.partOf(keptAs(l.out.Keys[i].Op))
		p.frame = appendKey(p.frame, &l.out.Keys[i])
	}
	for i := range l.out.Written {
		p := l.partOf(broker.Policy{})
		p.frame = appendWritten(p.frame, &l.out.Written[i])
	}
}

// write stores the parts of a commit, durably. After an error that is not
// broker.ErrUncertain nothing of it is stored.
func (l *Log) write() error {
	cfg := l.config.Load()
	room, err := l.roomFor(cfg)
	if err != nil {
		return err
	}
	began := time.Now()
	written := 0
	for _, p := range l.parts {
		if err = l.writePart(p, &room); err != nil {
			break
		}
		written++
	}
	if err != nil {
		return l.takeBack(l.parts[:min(written+1, len(l.parts))], err)
	}
	if cfg.NoSync {
		l.noSync = true
	} else if err := l.syncParts(); err != nil {
		l.fail(fmt.Errorf("syncing: %w", err))
		return fmt.Errorf("%w: %w", broker.ErrUncertain, err)
	}
	l.commits++ // not before: a mark has only commits that are whole
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		p.segment.size += int64(len(p.frame))
		l.size += p.end - p.segment.end
		p.segment.end = p.end
		p.chain.frame++
		l.stats.written += uint64(len(p.frame))
		if !cfg.NoSync {
			l.stats.syncs++
		}
	}
	l.stats.commits++
	l.stats.committing += time.Since(began)
	l.hasRoom()
	return nil
}

// roomFor is how many bytes may be filled behind the frames of a commit: none if they are
// not synced. It is an error if the directory has no room for the frames.
func (l *Log) roomFor(cfg *Config) (int64, error) {
	l.mu.Lock()
	total := l.size + l.dbSize
	need := int64(0)
	for _, p := range l.parts {
		if s := p.chain.newest(); s == nil || p.chain.isFull() {
			need += headerSize + int64(len(p.frame))
		} else {
			need += max(s.size+int64(len(p.frame))-s.end, 0)
		}
	}
	l.mu.Unlock()
	room := int64(math.MaxInt64)
	if cfg.MaxSize > 0 {
		room = cfg.MaxSize - total - need
	}
	if room < 0 && need > 0 {
		l.kickUpkeep()
		return 0, l.isFull(fmt.Errorf("the directory has %d bytes, and its bound is %d", total, cfg.MaxSize))
	}
	if cfg.NoSync {
		room = 0
	}
	return room, nil
}

// openNewest opens the newest segment of a chain, if it is not.
func (l *Log) openNewest(c *chain) error {
	if c.open != nil {
		return nil
	}
	f, err := l.disk.Open(c.newest().path)
	if err == nil {
		c.open = f
	}
	return err
}

// writePart writes a frame at the end of its chain. So many bytes may be filled behind it.
func (l *Log) writePart(p *part, room *int64) error {
	c := p.chain
	if s := c.newest(); s == nil || c.isFull() {
		if err := l.finish(c); err != nil {
			return err
		}
		if err := c.close(); err != nil {
			return err
		}
		s, err := c.start(l.disk, l.identity)
		if err != nil {
			return err
		}
		l.mu.Lock()
		c.number = s.number
		c.segments = append(c.segments, s)
		l.size += s.end
		l.mu.Unlock()
		l.kickUpkeep()
	}
	s := c.newest()
	p.segment = s
	if err := l.openNewest(c); err != nil {
		return err
	}
	endFrame(p.frame, &s.header, s.size, frameInfo{l.commits + 1, c.frame + 1, uint32(len(l.parts))})
	if _, err := c.open.WriteAt(p.frame, s.size); err != nil {
		return err
	}
	p.end = s.end
	if end := s.size + int64(len(p.frame)); end > s.end {
		p.end = l.fillBehind(c, end, int64(len(p.frame)), *room)
		*room -= p.end - end
	}
	return nil
}

// takeBack removes what a commit wrote before err. If that fails, nothing can be stored
// any more.
func (l *Log) takeBack(parts []*part, err error) error {
	if errors.Is(err, errStuck) {
		l.fail(err)
		return failedError(err)
	}
	for _, p := range parts {
		if p.segment == nil || p.chain.open == nil {
			continue
		}
		gone := p.chain.open.Truncate(p.segment.size)
		if gone == nil {
			l.setEnd(p.segment, p.segment.size)
			// Durably: the next commit must not find a whole frame of this one.
			gone = p.chain.open.Sync()
		}
		if gone != nil {
			err = errors.Join(err, gone)
			l.fail(err)
			return fmt.Errorf("%w: %w", broker.ErrUncertain, err)
		}
	}
	if isFull(err) {
		return l.isFull(err)
	}
	if l.refused(err) {
		l.logger.Error("the log cannot be written: publishers are refused until it can", slog.String("path", l.path), slog.Any("error", err))
	}
	return fmt.Errorf("%w: %w: %w", errWrite, broker.ErrUnavailable, err)
}

// errWrite is told when a write failed, and what was written of it was removed.
var errWrite = errkind.Opaque("unavailable", "log", "the disk of the log refuses to be written: nothing was stored")

// refused notes why a commit was refused that stored nothing, and reports whether it is
// the first one.
func (l *Log) refused(err error) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, l.full = l.full == nil, err
	l.lacked = 0
	for _, p := range l.parts {
		l.lacked += len(p.frame)
	}
	return first
}

// isFull is the error of an Append that found no room. The first of them is logged.
func (l *Log) isFull(err error) error {
	first := l.refused(err)
	if first {
		l.logger.Error("there is no room for the log: publishers are refused until there is", slog.String("path", l.path), slog.Any("error", err))
	}
	return fmt.Errorf("%w: %w", broker.ErrFull, err)
}

// syncParts syncs the files of a commit, all at once.
func (l *Log) syncParts() error {
	if len(l.parts) == 1 {
		return l.parts[0].chain.open.Sync()
	}
	var wg sync.WaitGroup
	for _, p := range l.parts {
		wg.Go(func() { p.err = p.chain.open.Sync() })
	}
	wg.Wait()
	var err error
	for _, p := range l.parts {
		err = errors.Join(err, p.err)
	}
	return err
}

// settle notes what a commit has stored, for the segments and the next mark.
func (l *Log) settle() {
	l.mu.Lock()
	for i := range l.out.Entries {
		e := &l.out.Entries[i]
		l.partOfStored(keptAs(l.out.Ops[i])).segment.noteEntry(e.ID, e.Kind)
	}
	for i := range l.out.Keys {
		l.partOfStored(keptAs(l.out.Keys[i].Op)).segment.noteKey(l.out.Keys[i].At)
	}
	l.stats.entries += uint64(len(l.out.Entries))
	l.mu.Unlock()
	for i := range l.out.Entries {
		if e := &l.out.Entries[i]; e.Kind == broker.KindState {
			l.changed(e)
		}
	}
	for i := range l.out.Written {
		l.dirty[l.out.Written[i].Channel] = struct{}{}
	}
}

// partOfStored is the part that partOf has made.
func (l *Log) partOfStored(policy broker.Policy) *part {
	for _, p := range l.parts {
		if p.chain.policy == policy {
			return p
		}
	}
	return nil // not reached: every entry and key was encoded to one
}

// changed notes a change of a value.
func (l *Log) changed(e *broker.Entry) {
	l.dirty[e.Channel] = struct{}{}
	delete(l.owners, e.Channel)
	switch {
	case e.State.Value != nil:
		if e.Owner != 0 {
			l.owners[e.Channel] = e.Owner
		}
		l.removed.forget(e.Channel)
	case !broker.IsFact(e.Channel):
		if out := l.removed.add(e.Channel, e.ID); out != "" {
			l.dirty[out] = struct{}{}
		}
	}
}

// Sync implements broker.Log. It has nothing to wait for: what was acknowledged is
// applied.
func (l *Log) Sync(ctx context.Context) error {
	if l.phase.Load() == phaseClosed {
		return broker.ErrClosed
	}
	return ctx.Err()
}
