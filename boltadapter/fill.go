package boltadapter

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Each sync of a file that grows has the file system write its journal, too. So the newest
// segment of a chain is filled in steps ahead of its frames, with bytes that no frame begins
// with. A step is written and synced together with the frame that needed it, so what is
// filled is durable before anything is written into it. Recovery knows by that where the
// frames end: behind the last one there is fill, or what a commit left that was not
// acknowledged.

const (
	// fillByte is not zero, and not the beginning of a frame: a page that the disk has lost
	// is not taken for one that was never written.
	fillByte = 0xE5
	// A step is as large as what the segment has, within these bounds: a chain with few
	// entries takes little of the disk.
	leastFill = 64 << 10
	mostFill  = 1 << 20
	// fillFrames bounds the frames that are filled for, in bytes. To fill costs a larger one
	// more than the journal does.
	fillFrames = 16 << 10
	// fillPage is what the end of a step is a multiple of.
	fillPage = 4 << 10
	// fillPause is how long files grow after the disk had no room for a step.
	fillPause = time.Minute
)

// filler fills segments ahead of their frames. It is for the committer.
type filler struct {
	least, most int64
	step        []byte    // what is written at once
	after       time.Time // nothing is filled until then
}

func newFiller() filler { return filler{least: leastFill, most: mostFill} }

// next is the end of the file if a step follows a frame of that many bytes that ends at end.
// It is end if none does. There is room for so many bytes more.
func (f *filler) next(end, frame, room int64, now time.Time) int64 {
	if frame > fillFrames || now.Before(f.after) {
		return end
	}
	size := min(max(end, f.least), f.most)
	next := min(end+size, segmentBytes)
	if page := int64(fillPage); f.least >= page {
		next -= next % page
	}
	if next-end > room {
		return end
	}
	return max(next, end)
}

// fill fills a file from one place to another, and returns where that ended.
func (f *filler) fill(to file, from, end int64) (int64, error) {
	if f.step == nil {
		f.step = bytes.Repeat([]byte{fillByte}, leastFill)
	}
	for from < end {
		n, err := to.WriteAt(f.step[:min(end-from, int64(len(f.step)))], from)
		if from += int64(n); err != nil {
			return from, err
		}
	}
	return from, nil
}

// isFill reports whether b has only what fills segments.
func isFill(b []byte) bool {
	return len(b) == 0 || b[0] == fillByte && bytes.Equal(b[1:], b[:len(b)-1])
}

// fillBehind fills the open segment of a chain behind a frame that ends at end, if that is
// worth it, and returns where the file ends. That there is no room for it is no error of the
// commit: then the file grows with each.
func (l *Log) fillBehind(c *chain, end, frame, room int64) int64 {
	now := l.now()
	next := l.filler.next(end, frame, room, now)
	if next == end {
		return end
	}
	filled, err := l.filler.fill(c.open, end, next)
	if err == nil {
		return filled
	}
	l.filler.after = now.Add(fillPause)
	if !isFull(err) {
		l.logger.Warn("a file of the log cannot be filled ahead: it grows with each commit for now", slog.String("path", l.path), slog.Any("error", err))
	}
	if c.open.Truncate(end) == nil { // others may need the room
		return end
	}
	return filled
}

// trim removes what is filled behind the frames of the newest segment of a chain, durably.
// Log.committing is held.
func (l *Log) trim(c *chain) error {
	s := c.newest()
	if s == nil || s.end == s.size {
		return nil
	}
	if err := l.openNewest(c); err != nil {
		return err
	}
	if err := c.open.Truncate(s.size); err != nil {
		return err
	}
	l.setEnd(s, s.size)
	if err := c.open.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errStuck, err)
	}
	return nil
}

// finish makes the newest segment of a chain as it stays: without fill, and durable, also
// where commits are not synced.
func (l *Log) finish(c *chain) error {
	if err := l.trim(c); err != nil {
		return err
	}
	if !l.noSync || c.open == nil {
		return nil
	}
	if err := c.open.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errStuck, err)
	}
	return nil
}

// setEnd notes how large the file of a segment is.
func (l *Log) setEnd(s *segment, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size += end - s.end
	s.end = end
}

// trimAll trims all chains. Log.committing is held.
func (l *Log) trimAll() error {
	var err error
	for _, c := range l.chains {
		err = errors.Join(err, l.trim(c))
	}
	return err
}
