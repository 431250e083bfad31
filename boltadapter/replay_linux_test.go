package boltadapter

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// replay is the files beneath a directory as a process has left them, call by call: what
// it sees, what is durable, and what may be.
type replay struct {
	root  string // a directory that is there before
	top   *node
	files map[int64]*handle // by descriptor
	wrote func(path string, data []byte)
}

// node is a file or a directory.
type node struct {
	dir     bool
	data    []byte  // durable
	pending []write // that are not
	sees    map[string]*node
	names   map[string]*node // durable
	changes []dirChange      // that are not
}

type write struct {
	diskOp
	end int
}

// dirChange is a change of names in a directory: a nil node removes.
type dirChange struct {
	names map[string]*node
	end   int
}

type handle struct {
	node   *node
	path   string
	offset int64
}

func newReplay(root string) *replay {
	return &replay{root: root, top: newNode(true), files: map[int64]*handle{}}
}

func newNode(dir bool) *node {
	return &node{dir: dir, sees: map[string]*node{}, names: map[string]*node{}}
}

// find is the node at a path, its directory and its name there. The directory is nil if the
// path is not beneath the root, and the node if there is none.
func (r *replay) find(path string) (n, dir *node, name string) {
	if path == r.root {
		return r.top, nil, ""
	}
	rest, ok := strings.CutPrefix(path, r.root+"/")
	if !ok {
		return nil, nil, ""
	}
	n = r.top
	for part := range strings.SplitSeq(rest, "/") {
		if n == nil {
			return nil, nil, ""
		}
		dir, name = n, part
		n = dir.sees[part]
	}
	return n, dir, name
}

func (n *node) change(end int, names map[string]*node) {
	for name, to := range names {
		if to == nil {
			delete(n.sees, name)
		} else {
			n.sees[name] = to
		}
	}
	n.changes = append(n.changes, dirChange{names, end})
}

// begin does what a call may have done as soon as it has begun, and returns what it has
// done when it ends.
func (r *replay) begin(c *call) (end func()) {
	if c.ret < 0 && c.end < 1<<62 { // it has done nothing
		return nil
	}
	switch c.name {
	case "open", "openat", "creat":
		return func() { r.open(c) }
	case "close":
		delete(r.files, c.number(0))
	case "dup", "dup2", "dup3":
		if h := r.files[c.number(0)]; h != nil {
			panic("a descriptor of a file is duplicated, which the test does not know")
		}
	case "mkdir", "mkdirat":
		if n, dir, name := r.find(r.path(c, 1)); dir != nil && n == nil {
			dir.change(c.end, map[string]*node{name: newNode(true)})
			return func() {}
		}
	case "unlink", "unlinkat", "rmdir":
		if _, dir, name := r.find(r.path(c, 1)); dir != nil {
			dir.change(c.end, map[string]*node{name: nil})
			return func() {}
		}
	case "rename", "renameat", "renameat2", "link", "linkat":
		if r.rename(c) {
			return func() {}
		}
	case "write", "pwrite64", "ftruncate":
		return r.write(c)
	case "fsync", "fdatasync":
		return r.sync(c)
	case "lseek", "mmap", "copy_file_range", "sendfile":
		r.refuse(c)
	default:
		panic("the test does not know " + c.name)
	}
	return nil
}

// refuse has the test fail where a file that matters is written in a way that is not
// replayed.
func (r *replay) refuse(c *call) {
	at := map[string]int{"lseek": 0, "mmap": 4, "copy_file_range": 2, "sendfile": 0}[c.name]
	h := r.files[c.number(at)]
	if h == nil || strings.HasPrefix(filepath.Base(h.path), spoolPrefix) {
		return
	}
	if c.name == "mmap" && (!strings.Contains(c.args[2], "PROT_WRITE") || !strings.Contains(c.args[3], "MAP_SHARED")) {
		return
	}
	if c.name == "lseek" && c.number(1) == 0 {
		h.offset = c.ret
		return
	}
	panic(fmt.Sprintf("%s of %s, which the test does not replay", c.name, h.path))
}

// path is that of a call whose name ends with at, or not.
func (r *replay) path(c *call, at int) string {
	if !strings.HasSuffix(c.name, "at") && c.name != "renameat2" {
		at--
	}
	return string(c.text(at))
}

func (r *replay) open(c *call) {
	flags, path := strings.Join(c.args, " "), r.path(c, 1)
	n, dir, name := r.find(path)
	if dir == nil && n == nil {
		return
	}
	if n == nil {
		n = newNode(false)
		dir.change(c.end, map[string]*node{name: n})
	}
	if strings.Contains(flags, "O_TRUNC") {
		n.pending = append(n.pending, write{diskOp{kind: "truncate"}, c.end})
	}
	r.files[c.ret] = &handle{node: n, path: path}
}

// rename is false for what is not beneath the root.
func (r *replay) rename(c *call) bool {
	from, to := 1, 3
	if c.name == "rename" || c.name == "link" {
		from, to = 0, 1
	}
	n, old, oldName := r.find(string(c.text(from)))
	_, dir, name := r.find(string(c.text(to)))
	switch {
	case old == nil && dir == nil:
		return false
	case n == nil || dir == nil:
		panic(fmt.Sprintf("%s of what is not there: %s", c.name, c.text(from)))
	case strings.HasPrefix(c.name, "link"):
		dir.change(c.end, map[string]*node{name: n})
	case old == dir:
		dir.change(c.end, map[string]*node{name: n, oldName: nil})
	default:
		panic("a file is moved to another directory, which the test does not replay")
	}
	return true
}

func (r *replay) write(c *call) (end func()) {
	h := r.files[c.number(0)]
	if h == nil {
		return nil
	}
	w := write{end: c.end}
	switch c.name {
	case "ftruncate":
		w.diskOp = diskOp{kind: "truncate", offset: c.number(1)}
	case "pwrite64":
		w.diskOp = diskOp{kind: "write", offset: c.number(3), data: c.text(1)[:c.ret]}
	default:
		w.diskOp = diskOp{kind: "write", offset: h.offset, data: c.text(1)[:c.ret]}
		h.offset += c.ret
	}
	h.node.pending = append(h.node.pending, w)
	return func() {
		if r.wrote != nil {
			r.wrote(h.path, w.data)
		}
	}
}

// sync makes durable what had ended when it began.
func (r *replay) sync(c *call) (end func()) {
	h := r.files[c.number(0)]
	if h == nil {
		return nil
	}
	n := h.node
	var changes []dirChange
	for _, ch := range n.changes {
		if ch.end <= c.begin {
			changes = append(changes, ch)
		}
	}
	var writes []write
	for _, w := range n.pending {
		if w.end <= c.begin {
			writes = append(writes, w)
		}
	}
	return func() {
		for _, ch := range changes {
			n.keep(ch)
		}
		for _, w := range writes {
			n.data = w.growing(n.data)
		}
		n.changes = slices.DeleteFunc(n.changes, func(ch dirChange) bool { return ch.end <= c.begin })
		n.pending = slices.DeleteFunc(n.pending, func(w write) bool { return w.end <= c.begin })
	}
}

func (n *node) keep(ch dirChange) {
	for name, to := range ch.names {
		if to == nil {
			delete(n.names, name)
		} else {
			n.names[name] = to
		}
	}
}

// growing applies a write, also a truncation that makes a file longer.
func (w *write) growing(data []byte) []byte {
	if w.kind == "truncate" && int(w.offset) > len(data) {
		return writeTo(data, nil, w.offset)
	}
	return w.apply(data)
}

// cut writes what the disk may have if power is cut now into dir: all that is durable, and
// of the rest any part. How much is decided once, so that often nothing or all is there.
func (r *replay) cut(dir string, rnd *rand.Rand) error {
	return r.top.cut(dir, rnd, rnd.IntN(4), rnd.IntN(4), map[*node]string{})
}

func (n *node) cut(path string, rnd *rand.Rand, names, writes int, made map[*node]string) error {
	some := func(how int) bool { return how == 1 || how > 1 && rnd.IntN(2) == 0 }
	if n.dir {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		there := &node{names: maps.Clone(n.names)}
		for _, ch := range n.changes {
			if some(names) {
				there.keep(ch)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(there.names)) {
			if err := there.names[name].cut(filepath.Join(path, name), rnd, names, writes, made); err != nil {
				return err
			}
		}
		return nil
	}
	if other, linked := made[n]; linked {
		return os.Link(other, path)
	}
	made[n] = path
	data := bytes.Clone(n.data)
	for _, i := range rnd.Perm(len(n.pending)) {
		w := &n.pending[i]
		switch {
		case writes == 0:
		case w.kind == "truncate" && some(writes):
			data = w.growing(data)
		case w.kind == "truncate":
			data = w.tear(data, nil, rnd)
		case w.kind == "write" && writes > 1:
			data = w.tear(data, nil, rnd)
		}
	}
	if writes == 1 {
		for _, w := range n.pending {
			data = w.growing(data)
		}
	}
	return os.WriteFile(path, data, 0o600)
}
