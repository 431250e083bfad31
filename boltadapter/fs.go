package boltadapter

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileSystem is all that segments need of the disk. Tests have one that fails, and one
// that records what is written. Methods are safe for concurrent use.
type fileSystem interface {
	// MkdirAll makes a directory and its parents.
	MkdirAll(dir string) error
	// Create makes a file that must not be there; Open opens one that is. Both may be
	// read and written.
	Create(path string) (file, error)
	Open(path string) (file, error)
	// List has the names in a directory, sorted; none if it is not there.
	List(dir string) ([]string, error)
	Remove(path string) error
	// SyncDir makes what was created and removed in a directory durable.
	SyncDir(dir string) error
}

// file is a file of a fileSystem, for one goroutine.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes what was written durable.
	Sync() error
}

// disk is the fileSystem of the operating system.
type disk struct{}

func (disk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (disk) Create(path string) (file, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (disk) Open(path string) (file, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (disk) List(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (disk) Remove(path string) error { return os.Remove(path) }

func (disk) SyncDir(dir string) error {
	f, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

// readOnly is the disk of the operating system where nothing is written: a log on a file
// system that cannot be written, or of another user, can be checked.
type readOnly struct{ disk }

func (readOnly) Open(path string) (file, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return syncData(f.File) }
