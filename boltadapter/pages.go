package boltadapter

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// The pages of a file of bbolt are checked before bbolt follows them: on a damaged one it
// panics, in a goroutine of its own too, reads beyond the file, or never ends.

const (
	pageHeader   = 16
	metaEnd      = pageHeader + 56 // where the checksum of a meta page is
	boltMagic    = 0xED0CDAED
	branchPage   = 0x01
	leafPage     = 0x02
	bucketLeaf   = 0x01 // the flag of an element that is a bucket
	elementSize  = 16
	bucketHeader = 16
	maxPageDepth = 32
)

// pages checks the pages of one file.
type pages struct {
	file    io.ReaderAt
	size    int64 // of a page
	end     uint64
	visited map[uint64]struct{}
}

// checkPages checks all pages that the current state of a database has. The database must
// be open, so that nobody writes meanwhile.
func checkPages(db *bolt.DB) error {
	f, err := os.Open(filepath.Clean(db.Path()))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	p := &pages{file: f, size: int64(db.Info().PageSize), visited: map[uint64]struct{}{}}
	var root, newest uint64
	found := false
	for id := range int64(2) {
		b := make([]byte, metaEnd+8)
		if _, err := f.ReadAt(b, id*p.size); err != nil {
			continue
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[pageHeader:metaEnd])
		at := func(i int) uint64 { return binary.NativeEndian.Uint64(b[pageHeader+i:]) }
		tx := at(48)
		if binary.NativeEndian.Uint32(b[pageHeader:]) != boltMagic || sum.Sum64() != at(56) || found && tx < newest {
			continue
		}
		root, newest, found, p.end = at(16), tx, true, at(40)
	}
	if !found {
		return metaError(db.Path(), "neither of its meta pages can be read")
	}
	if err := p.page(root, 0); err != nil {
		return metaError(db.Path(), err.Error())
	}
	return nil
}

// page checks a page, and those beneath it.
func (p *pages) page(id uint64, depth int) error {
	if _, again := p.visited[id]; again || id < 2 || id >= p.end || depth > maxPageDepth {
		return fmt.Errorf("page %d is referred to where it cannot be", id)
	}
	p.visited[id] = struct{}{}
	head := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(head, int64(id)*p.size); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	overflow := uint64(binary.NativeEndian.Uint32(head[12:]))
	if binary.NativeEndian.Uint64(head) != id || id+overflow >= p.end {
		return fmt.Errorf("page %d has the header of another", id)
	}
	b := make([]byte, int64(overflow+1)*p.size)
	if _, err := p.file.ReadAt(b, int64(id)*p.size); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return p.elements(id, b, depth)
}

// elements checks the elements of a page: b is all of it.
func (p *pages) elements(id uint64, b []byte, depth int) error {
	flags, count := binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:]))
	if pageHeader+count*elementSize > len(b) || flags != branchPage && flags != leafPage || flags == branchPage && count == 0 {
		return fmt.Errorf("page %d has neither a branch nor leaves", id)
	}
	for i := range count {
		at := pageHeader + i*elementSize
		e := b[at:]
		number := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(e[i:])) }
		if flags == branchPage {
			if uint64(at)+number(0)+number(4) > uint64(len(b)) {
				return fmt.Errorf("page %d has a key beyond its end", id)
			}
			if err := p.page(binary.NativeEndian.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		from, end := uint64(at)+number(4)+number(8), uint64(at)+number(4)+number(8)+number(12)
		if end > uint64(len(b)) {
			return fmt.Errorf("page %d has a value beyond its end", id)
		}
		if number(0)&bucketLeaf == 0 {
			continue
		}
		if end-from < bucketHeader {
			return fmt.Errorf("page %d has a bucket that cannot be read", id)
		}
		bucket := b[from:end]
		root := binary.NativeEndian.Uint64(bucket)
		if root != 0 {
			if err := p.page(root, depth+1); err != nil {
				return err
			}
			continue
		}
		inline := bucket[bucketHeader:]
		if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != leafPage {
			return fmt.Errorf("page %d has a bucket that cannot be read", id)
		}
		if err := p.elements(id, inline, depth+1); err != nil {
			return err
		}
	}
	return nil
}
