package boltadapter

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// DamageError says that a file of the log is not what was written. The log does not open
// with it.
type DamageError struct {
	Path   string
	Offset int64 // of the first byte that is not as it was written, at most
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s (`caddy evstream log check` lists what is damaged, `caddy evstream restore` puts a backup in its place)", e.Path, e.Offset, e.Reason)
}

// scan reads all segments, before the log is opened: it checks every byte, and collects
// what decides operations.
type scan struct {
	disk     fileSystem
	root     string
	identity identity
	mark     mark
	now      time.Time

	chains  map[chainHash]*chain
	last    broker.ID // the newest id
	commit  uint64    // the newest commit
	rules   uint64
	mixed   broker.ID
	closes  []change // entries that close or open channels
	changes []change // of values since the mark, in order
	keys    []loadedKey
	parts   map[uint64]uint32 // frames seen of commits since the mark that have several
	whole   map[uint64]uint32 // how many these have
	torn    []Torn
	buf     []byte
}

// change is a change of a value, or of when it was written.
type change struct {
	commit  uint64
	entry   broker.Entry
	written broker.Written
}

type loadedKey struct {
	commit uint64
	key    broker.KeyRecord
}

// Torn is the end of a segment that is not whole, because the process or the machine
// stopped while it was written. Nothing of it was acknowledged.
type Torn struct {
	Path string
	From int64 // the first byte that is not used
	Size int64 // how many there are
	file bool  // the whole file
}

// run scans all chains.
func (sc *scan) run() error {
	sc.chains, sc.parts, sc.whole = map[chainHash]*chain{}, map[uint64]uint32{}, map[uint64]uint32{}
	sc.last, sc.commit, sc.rules, sc.mixed = sc.mark.Last.id(), sc.mark.Commit, sc.mark.Rules, sc.mark.Mixed.id()
	dirs, err := sc.disk.List(filepath.Join(sc.root, "segments"))
	if err != nil {
		return err
	}
	for name := range sc.mark.Chains {
		if !slices.Contains(dirs, name) {
			dirs = append(dirs, name)
		}
	}
	slices.Sort(dirs)
	for _, name := range dirs {
		if err := sc.chain(name); err != nil {
			return err
		}
	}
	return sc.completeCommit()
}

// chain scans one chain.
func (sc *scan) chain(name string) error {
	dir := filepath.Join(sc.root, "segments", name)
	var hash chainHash
	if n, err := hex.Decode(hash[:], []byte(name)); err != nil || n != len(hash) || len(name) != 2*len(hash) {
		return fmt.Errorf("%s does not belong to a log", dir)
	}
	row, known := sc.mark.Chains[name]
	c := &chain{hash: hash, dir: dir, policy: row.policy(), lost: row.Lost.id()}
	if known && hashOf(c.policy) != hash {
		return &DamageError{dir, 0, "the name does not fit the policy of the chain"}
	}
	files, err := sc.disk.List(dir)
	if err != nil {
		return err
	}
	if !known && sc.mark.Clean && len(files) > 0 { // the directory alone may be left of a first commit that was not done
		return &DamageError{dir, 0, "the log has no such chain"}
	}
	first := max(row.First, 1)
	c.number = first - 1
	if first > row.Number {
		c.frame = row.Frame
	}
	var numbers []uint64
	for _, file := range files {
		n, ok := segmentNumber(file)
		if !ok {
			return fmt.Errorf("%s does not belong to a log", filepath.Join(dir, file))
		}
		if n < first { // its removal was cut short
			sc.torn = append(sc.torn, Torn{Path: filepath.Join(dir, file), file: true})
			continue
		}
		numbers = append(numbers, n)
	}
	for i, n := range numbers {
		if n != c.number+1 {
			return &DamageError{c.segmentPath(c.number + 1), 0, "the file is missing"}
		}
		if err := sc.segment(c, n, row, i == len(numbers)-1, i == 0 && first <= row.Number); err != nil {
			return err
		}
	}
	end, size := c.number, int64(0)
	if s := c.newest(); s != nil {
		size = s.size
	}
	short := end < row.Number || end == row.Number && first <= row.Number && (size < row.Size || c.frame < row.Frame)
	longer := end > row.Number || end == row.Number && (size > row.Size && first <= row.Number || c.frame > row.Frame)
	if short || sc.mark.Clean && longer {
		return &DamageError{c.segmentPath(max(end, 1)), size, fmt.Sprintf("it ends at frame %d and byte %d of segment %d, and must reach frame %d and byte %d of segment %d", c.frame, size, end, row.Frame, row.Size, row.Number)}
	}
	if c.number > 0 || known {
		sc.chains[hash] = c
	}
	return nil
}

// segment scans segment number n of c. The frames of the first one that is there may
// have any first number.
func (sc *scan) segment(c *chain, n uint64, row chainMark, newest, anyFrame bool) error {
	path := c.segmentPath(n)
	b, err := sc.read(path)
	if err != nil {
		return err
	}
	h, err := decodeHeader(b)
	if err != nil {
		if errors.Is(err, errHeader) && newest && n > row.Number && !sc.mark.Clean && (len(b) <= headerSize || sc.mark.NoSync) {
			sc.torn = append(sc.torn, Torn{Path: path, Size: int64(len(b)), file: true})
			return nil
		}
		return &DamageError{path, 0, err.Error()}
	}
	switch {
	case h.identity != sc.identity:
		return &DamageError{path, 16, "the segment is of another log"}
	case h.chain != c.hash || h.number != n || hashOf(h.policy) != c.hash:
		return &DamageError{path, 32, "the segment is of another place in the log"}
	case !anyFrame && h.frame != c.frame+1:
		return &DamageError{path, 48, fmt.Sprintf("it begins with frame %d, and the frame before it is %d", h.frame, c.frame)}
	}
	c.policy, c.number, c.frame = h.policy, n, h.frame-1
	s := &segment{header: h, path: path, size: headerSize, end: int64(len(b))}
	c.segments = append(c.segments, s)
	for offset := int64(headerSize); offset < int64(len(b)); offset = s.size {
		info, records, ok := nextFrame(b[offset:], &h, offset)
		if !ok || info.number != c.frame+1 {
			return sc.badFrame(s, b, offset, row, newest)
		}
		if err := sc.frame(s, info, records, path, offset); err != nil {
			return err
		}
		c.frame++
		s.size = offset + frameHeader + int64(len(records))
	}
	return nil
}

// read reads a file into the buffer of sc.
func (sc *scan) read(path string) ([]byte, error) {
	f, err := sc.disk.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxSegmentFile {
		return nil, &DamageError{path, maxSegmentFile, fmt.Sprintf("it has %d bytes, more than any segment", size)}
	}
	if int64(cap(sc.buf)) < size {
		sc.buf = make([]byte, size)
	}
	return readFile(f, sc.buf[:size])
}

// maxSegmentFile is more than a segment has: one commit comes on top of segmentBytes.
const maxSegmentFile = segmentBytes + 2*maxQueuedBytes

// badFrame decides about a place that has no whole frame: there is fill up to the end of the
// file, or a frame that is torn, or damage.
func (sc *scan) badFrame(s *segment, b []byte, offset int64, row chainMark, newest bool) error {
	switch {
	case !newest:
		return &DamageError{s.path, offset, "there is no whole frame, and later segments follow"}
	case sc.mark.Clean:
		return &DamageError{s.path, offset, "there is no whole frame, though the log was closed"}
	case s.number < row.Number || s.number == row.Number && offset < row.Size:
		return &DamageError{s.path, offset, fmt.Sprintf("there is no whole frame, and the segment had %d bytes", row.Size)}
	case isFill(b[offset:]):
		return nil
	case !sc.mark.NoSync:
		// Each frame was synced before the next one was written.
		for at := offset + 1; ; at++ {
			next := bytes.Index(b[at:], []byte(frameMagic))
			if next < 0 {
				break
			}
			at += int64(next)
			if _, _, ok := nextFrame(b[at:], &s.header, at); ok {
				return &DamageError{s.path, offset, fmt.Sprintf("there is no whole frame, and a whole one follows at byte %d", at)}
			}
		}
	}
	sc.torn = append(sc.torn, Torn{Path: s.path, From: offset, Size: int64(len(b)) - offset})
	s.end = offset
	return nil
}

// frame takes in a frame.
func (sc *scan) frame(s *segment, info frameInfo, records []byte, path string, offset int64) error {
	if info.parts > 1 && info.commit > sc.mark.Commit {
		sc.parts[info.commit]++
		sc.whole[info.commit] = info.parts
	}
	sc.commit = max(sc.commit, info.commit)
	err := eachRecord(records, func(r *record) error {
		s.note(r)
		switch r.kind {
		case recordEntry:
			if r.id.After(sc.last) {
				sc.last = r.id
			}
			if kind := r.entryKind(); kind == broker.KindClose || kind == broker.KindPurge {
				sc.closes = append(sc.closes, change{commit: info.commit, entry: r.decodeEntry()})
			}
			if r.entryKind() == broker.KindState && info.commit > sc.mark.Commit {
				sc.changes = append(sc.changes, change{commit: info.commit, entry: r.decodeEntry()})
			}
		case recordKey:
			if sc.now.Sub(r.key.At) < broker.KeyWindow {
				sc.keys = append(sc.keys, loadedKey{info.commit, r.key})
			}
		case recordWritten:
			if info.commit > sc.mark.Commit {
				sc.changes = append(sc.changes, change{commit: info.commit, written: r.written})
			}
		case recordRules:
			if info.commit > sc.mark.Commit {
				sc.rules, sc.mixed = r.rules, r.id
			}
		}
		return nil
	})
	if err != nil {
		return &DamageError{path, offset, err.Error()}
	}
	return nil
}

// completeCommit removes the newest commit, if it is not in all of its chains.
func (sc *scan) completeCommit() error {
	for commit, parts := range sc.whole {
		if sc.parts[commit] == parts {
			continue
		}
		if sc.mark.NoSync {
			continue // what is not synced may be lost in parts
		}
		if commit != sc.commit || sc.mark.Clean {
			return fmt.Errorf("commit %d of the log in %s is in %d of %d chains, and later ones follow: a file is damaged or missing (`caddy evstream restore` puts a backup in its place)", commit, sc.root, sc.parts[commit], parts)
		}
		if err := sc.dropCommit(commit); err != nil {
			return err
		}
	}
	return nil
}

// dropCommit forgets the newest commit.
func (sc *scan) dropCommit(commit uint64) error {
	for _, c := range sc.chains {
		s := c.newest()
		if s == nil {
			continue
		}
		b, err := sc.read(s.path)
		if err != nil {
			return err
		}
		kept := &segment{header: s.header, path: s.path, size: headerSize}
		for offset := int64(headerSize); offset < s.size; {
			info, records, _ := nextFrame(b[offset:], &s.header, offset)
			if info.commit == commit {
				sc.torn = append(sc.torn, Torn{Path: s.path, From: offset, Size: s.size - offset})
				kept.end = offset
				c.segments[len(c.segments)-1] = kept
				c.frame = info.number - 1
				break
			}
			if err := eachRecord(records, func(r *record) error { kept.note(r); return nil }); err != nil {
				return err
			}
			offset += frameHeader + int64(len(records))
			kept.size = offset
		}
	}
	sc.changes = slices.DeleteFunc(sc.changes, func(c change) bool { return c.commit == commit })
	sc.closes = slices.DeleteFunc(sc.closes, func(c change) bool { return c.commit == commit })
	sc.keys = slices.DeleteFunc(sc.keys, func(k loadedKey) bool { return k.commit == commit })
	return nil
}

// cut removes what is torn from the disk.
func (sc *scan) cut() error {
	for _, t := range sc.torn {
		if t.file {
			if err := sc.disk.Remove(t.Path); err != nil {
				return err
			}
			if err := sc.disk.SyncDir(filepath.Dir(t.Path)); err != nil {
				return err
			}
			continue
		}
		f, err := sc.disk.Open(t.Path)
		if err != nil {
			return err
		}
		err = errors.Join(f.Truncate(t.From), f.Sync(), f.Close())
		if err != nil {
			return fmt.Errorf("removing the torn end of %s: %w", t.Path, err)
		}
	}
	return nil
}

// settle makes durable what was found. A process that was killed may have written it without
// a sync, and it is answered for from now on.
func (sc *scan) settle() error {
	if sc.mark.Clean {
		return nil
	}
	segments := filepath.Join(sc.root, "segments")
	if err := sc.disk.MkdirAll(segments); err != nil { // meta.db may be all that is there of a new log
		return err
	}
	for _, c := range sc.chains {
		s := c.newest()
		if s == nil {
			continue
		}
		f, err := sc.disk.Open(s.path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close(), sc.disk.SyncDir(c.dir)); err != nil {
			return fmt.Errorf("syncing %s: %w", s.path, err)
		}
	}
	return errors.Join(sc.disk.SyncDir(segments), sc.disk.SyncDir(sc.root))
}

// readFile reads len(b) bytes from the beginning of f.
func readFile(f file, b []byte) ([]byte, error) {
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		return b, nil
	}
	if err == nil {
		err = fmt.Errorf("%d of %d bytes were read", n, len(b))
	}
	return nil, err
}
