package boltadapter

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// memDisk is a fileSystem in memory, which fails as it is told, and records what is
// done.
type memDisk struct {
	mu    sync.Mutex
	files map[string]*memFile
	ops   []diskOp
	// fail is asked before an operation. A write may be done in part: its first n bytes.
	fail func(op diskOp) (n int, err error)
}

// diskOp is one operation: "create", "write", "truncate", "sync", "remove", "syncdir".
type diskOp struct {
	kind, path string
	offset     int64
	data       []byte
}

type memFile struct {
	disk *memDisk
	path string
	data []byte
}

func newMemDisk() *memDisk { return &memDisk{files: map[string]*memFile{}} }

// clone copies the files.
func (d *memDisk) clone() *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newMemDisk()
	for path, f := range d.files {
		c.put(path, bytes.Clone(f.data))
	}
	return c
}

func (d *memDisk) put(path string, data []byte) {
	d.files[path] = &memFile{disk: d, path: path, data: data}
}

// paths are those of all files, sorted.
func (d *memDisk) paths() []string { return slices.Sorted(maps.Keys(d.files)) }

// do asks fail, and records an operation. d.mu is held.
func (d *memDisk) do(op diskOp) (n int, err error) {
	if n = len(op.data); d.fail != nil {
		if part, err := d.fail(op); err != nil {
			if op.data = op.data[:part]; part > 0 {
				d.ops = append(d.ops, op)
			}
			return part, err
		}
	}
	d.ops = append(d.ops, op)
	return n, nil
}

// load copies the segments of a log on the disk.
func (d *memDisk) load(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "segments"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var data []byte
			if data, err = os.ReadFile(path); err == nil {
				d.put(path, data)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (d *memDisk) MkdirAll(string) error { return nil }

func (d *memDisk) Create(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[path] != nil {
		return nil, fs.ErrExist
	}
	if _, err := d.do(diskOp{kind: "create", path: path}); err != nil {
		return nil, err
	}
	d.put(path, nil)
	return d.files[path], nil
}

func (d *memDisk) Open(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[path]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("opening %s: %w", path, fs.ErrNotExist)
}

func (d *memDisk) List(dir string) (names []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range d.paths() {
		if rest, ok := strings.CutPrefix(path, dir+string(filepath.Separator)); ok {
			if name, _, _ := strings.Cut(rest, string(filepath.Separator)); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func (d *memDisk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[path] == nil {
		return fs.ErrNotExist
	}
	if _, err := d.do(diskOp{kind: "remove", path: path}); err != nil {
		return err
	}
	delete(d.files, path)
	return nil
}

func (d *memDisk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.do(diskOp{kind: "syncdir", path: dir})
	return err
}

func (f *memFile) ReadAt(b []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if offset >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.disk.do(diskOp{"write", f.path, offset, bytes.Clone(b)})
	f.data = writeTo(f.data, b[:n], offset)
	return n, err
}

func writeTo(data, b []byte, offset int64) []byte {
	if end := int(offset) + len(b); len(data) < end {
		data = append(data, make([]byte, end-len(data))...)
	}
	copy(data[offset:], b)
	return data
}

func (f *memFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if _, err := f.disk.do(diskOp{kind: "truncate", path: f.path, offset: size}); err != nil {
		return err
	}
	if int(size) > len(f.data) {
		f.data = writeTo(f.data, nil, size)
	}
	f.data = f.data[:size:size]
	return nil
}

func (f *memFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	_, err := f.disk.do(diskOp{kind: "sync", path: f.path})
	return err
}

func (f *memFile) Close() error { return nil }

// powerCut is what a disk may have when power is cut after the first n operations on the
// files of base: all that was synced, and of the rest any part, in any order.
func powerCut(base *memDisk, ops []diskOp, n int, r *rand.Rand) *memDisk {
	type state struct {
		data    []byte
		pending []diskOp
		there   bool // its directory was synced since it was made
	}
	files := map[string]*state{}
	if base != nil {
		for path, f := range base.files {
			files[path] = &state{data: bytes.Clone(f.data), there: true}
		}
	}
	var all []byte                 // what was ever written: a page may have it still
	removed := map[string]*state{} // whose directory was not synced since
	for _, op := range ops[:n] {
		switch op.kind {
		case "create":
			files[op.path] = &state{}
		case "write", "truncate":
			files[op.path].pending = append(files[op.path].pending, op)
			all = append(all, op.data...)
		case "sync":
			f := files[op.path]
			for _, p := range f.pending {
				f.data = p.apply(f.data)
			}
			f.pending = nil
		case "remove":
			removed[op.path] = files[op.path]
			delete(files, op.path)
		case "syncdir":
			for path, f := range files {
				f.there = f.there || filepath.Dir(path) == op.path
			}
			maps.DeleteFunc(removed, func(path string, _ *state) bool { return filepath.Dir(path) == op.path })
		}
	}
	d := newMemDisk()
	for _, path := range slices.Sorted(maps.Keys(removed)) {
		if f := removed[path]; f.there && r.IntN(2) == 0 && files[path] == nil {
			files[path] = f // it is still there
		}
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		if !f.there && r.IntN(2) == 0 {
			continue
		}
		data := bytes.Clone(f.data)
		switch r.IntN(4) {
		case 0: // nothing of what was not synced
		case 1: // all of it
			for _, p := range f.pending {
				data = p.apply(data)
			}
		default: // some sectors of it, in any order
			for _, i := range r.Perm(len(f.pending)) {
				data = f.pending[i].tear(data, all, r)
			}
		}
		d.put(path, data)
	}
	return d
}

func (op diskOp) apply(data []byte) []byte {
	if op.kind == "write" {
		return writeTo(data, op.data, op.offset)
	}
	if int(op.offset) <= len(data) {
		return bytes.Clone(data[:op.offset])
	}
	return data
}

// sector is less than disks have, because the tests write little.
const sector = 64

// tear applies some of the sectors of a write. Where a file becomes longer, and a sector of it
// is not written, there are zeros, or what another file had there.
func (op diskOp) tear(data, old []byte, r *rand.Rand) []byte {
	if op.kind != "write" {
		switch r.IntN(3) {
		case 0:
			return op.apply(data)
		case 1: // the rest of the sector is cleared, and the file as long as it was
			if from := int(op.offset); from < len(data) {
				data = bytes.Clone(data)
				clear(data[from:min(from+sector-from%sector, len(data))])
			}
		}
		return data
	}
	stale := len(old) > 0 && r.IntN(3) == 0
	durable := len(data)
	for at := 0; at < len(op.data); {
		end := min(at+sector-int(op.offset+int64(at))%sector, len(op.data))
		if r.IntN(3) > 0 {
			data = writeTo(data, op.data[at:end], op.offset+int64(at))
		}
		at = end
	}
	if stale && len(data) > durable {
		for from := (durable + sector - 1) / sector * sector; from < len(data); from += sector {
			if hole := data[from:min(from+sector, len(data))]; bytes.Count(hole, []byte{0}) == len(hole) {
				copy(hole, old[r.IntN(len(old)):])
			}
		}
	}
	return data
}

func seeded(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 6)) }
