package boltadapter

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// A segment is closed when it has so many bytes or entries.
const (
	segmentBytes   = 16 << 20
	segmentEntries = 1 << 16
)

// segment is a file of a chain. Log.mu guards it once the log is open; what is in a
// closed one does not change.
type segment struct {
	header
	path    string
	size    int64 // of its frames, which are durable
	end     int64 // of the file: behind the frames it is filled
	entries int
	oldest  broker.ID // entry
	newest  broker.ID // entry
	event   broker.ID // the newest entry that is an event
	keysAt  time.Time // the newest idempotency key; zero if there is none
	closes  broker.ID // the newest entry that closes a channel
	purge   broker.ID // the newest entry that removes what other segments may have
}

// chain is the segments of one policy.
type chain struct {
	hash   chainHash
	policy broker.Policy
	dir    string

	segments []*segment // that are there, oldest first
	number   uint64     // of the newest segment that there ever was
	frame    uint64     // of the newest frame that there ever was
	lost     broker.ID  // the newest event that was removed

	open file // the newest segment, if it is appended to; for the committer
}

func newChain(root string, policy broker.Policy) *chain {
	hash := hashOf(policy)
	return &chain{hash: hash, policy: policy, dir: filepath.Join(root, "segments", hex.EncodeToString(hash[:]))}
}

// keptAs is the policy that an operation is kept by. What has none, and changes of
// values, are kept by the zero one.
func keptAs(op *broker.Op) broker.Policy {
	if op.Kind == broker.KindState || op.History.Events == 0 {
		return broker.Policy{}
	}
	return op.History
}

func (c *chain) segmentPath(number uint64) string {
	return filepath.Join(c.dir, fmt.Sprintf("%016d.log", number))
}

// segmentNumber is the number of a segment by the name of its file.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

func (c *chain) newest() *segment {
	if len(c.segments) == 0 {
		return nil
	}
	return c.segments[len(c.segments)-1]
}

// first is the number of the oldest segment that must be there.
func (c *chain) first() uint64 {
	if len(c.segments) == 0 {
		return c.number + 1
	}
	return c.segments[0].number
}

// isFull reports whether the newest segment is to be closed.
func (c *chain) isFull() bool {
	s := c.newest()
	return s.size >= segmentBytes || s.entries >= segmentEntries
}

// start makes the next segment, durably, and leaves it open. When it fails, there is no
// new segment, unless the error says that it cannot be removed.
func (c *chain) start(disk fileSystem, id identity) (s *segment, err error) {
	if c.number == 0 {
		if err := disk.MkdirAll(c.dir); err != nil {
			return nil, err
		}
		if err := disk.SyncDir(filepath.Dir(c.dir)); err != nil {
			return nil, err
		}
	}
	h := header{identity: id, chain: c.hash, number: c.number + 1, frame: c.frame + 1, policy: c.policy}
	path := c.segmentPath(h.number)
	f, err := disk.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		_ = f.Close()
		if gone := disk.Remove(path); gone != nil {
			err = errors.Join(err, errStuck, gone)
		}
	}()
	if _, err = f.WriteAt(h.encode(), 0); err != nil {
		return nil, err
	}
	if err = f.Sync(); err != nil {
		return nil, err
	}
	if err = disk.SyncDir(c.dir); err != nil {
		return nil, err
	}
	c.open = f
	return &segment{header: h, path: path, size: headerSize, end: headerSize}, nil
}

// errStuck says that what a failed write has left on the disk cannot be removed.
var errStuck = errors.New("what was written in part cannot be removed")

// close closes the file that is appended to.
func (c *chain) close() error {
	if c.open == nil {
		return nil
	}
	err := c.open.Close()
	c.open = nil
	return err
}

// note takes in a record that is in s.
func (s *segment) note(r *record) {
	switch r.kind {
	case recordEntry:
		s.noteEntry(r.id, r.entryKind())
	case recordKey:
		s.noteKey(r.key.At)
	}
}

func (s *segment) noteEntry(id broker.ID, kind broker.Kind) {
	if s.entries++; s.entries == 1 {
		s.oldest = id
	}
	s.newest = id
	switch kind {
	case broker.KindEvent:
		s.event = id
	case broker.KindClose:
		s.event, s.closes = id, id
	case broker.KindState, broker.KindNotice:
	default:
		s.purge = id
	}
}

func (s *segment) noteKey(at time.Time) {
	if at.After(s.keysAt) {
		s.keysAt = at
	}
}
