package boltadapter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What is made beside meta.db, before it is in its place or while it is copied.
const (
	newPrefix   = "meta.db.new"
	spoolPrefix = "meta.backup"
)

// openMeta makes the directory if it is not there, and meta.db in it. Who may use them is
// said by the lock on meta.db.
func (l *Log) openMeta() error {
	made := parentsToSync(l.path)
	if err := os.MkdirAll(l.path, 0o700); err != nil {
		return err
	}
	if there, err := exists(l.metaPath()); there || err != nil {
		return err
	}
	chains, err := l.disk.List(filepath.Join(l.path, "segments"))
	if err != nil {
		return err
	}
	if len(chains) > 0 {
		// Unless another process has made both since.
		if there, err := exists(l.metaPath()); there || err != nil {
			return err
		}
		return metaError(l.metaPath(), "the file is missing, and there are segments")
	}
	if err := l.disk.MkdirAll(filepath.Join(l.path, "segments")); err != nil {
		return err
	}
	for _, dir := range append(made, filepath.Dir(l.path)) {
		if err := l.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return createDB(l.metaPath(), l.now())
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// parentsToSync are the directories that get an entry when dir is made with its parents,
// without the nearest one.
func parentsToSync(dir string) (list []string) {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if _, err := os.Stat(parent); err == nil || parent == filepath.Dir(parent) {
			return list
		}
		list = append(list, filepath.Dir(parent))
	}
}

// createDB makes meta.db. It is made beside its place, so that it is whole or not there.
// Other processes may do the same: the first one that puts it in its place has made it, and
// the others leave it as it is.
func createDB(path string, now time.Time) error {
	f, err := os.CreateTemp(filepath.Dir(path), newPrefix+"-*")
	if err != nil {
		return err
	}
	part := f.Name()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openDB(part, false, false)
	if err == nil {
		err = errors.Join(create(db, now), db.Close())
	}
	if err == nil {
		err = place(part, path)
	}
	if gone := os.Remove(part); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return err
	}
	return disk{}.SyncDir(filepath.Dir(path))
}

// place has a file be at path, unless there is one.
func place(part, path string) error {
	err := os.Link(part, path)
	if err == nil {
		return nil
	}
	if there, gone := exists(path); there || gone != nil {
		return gone
	}
	// The file system has no links: then it cannot be done in one step.
	if os.Rename(part, path) == nil {
		return nil
	}
	return err
}

// removeLeft removes what a process has left beside meta.db that was killed. The lock on
// meta.db is held.
func (l *Log) removeLeft() error {
	entries, err := os.ReadDir(l.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), newPrefix) && !strings.HasPrefix(e.Name(), spoolPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(l.path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
