package boltadapter

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	bolt "go.etcd.io/bbolt"

	"github.com/evstream/caddy-evstream/broker"
)

// minCompact is a size of meta.db below which it is not worth it to compact it at start.
const minCompact = 4 << 20

// compactStep bounds a transaction of a compaction, in bytes.
const compactStep = 1 << 20

// dbSizes is the size of a file of bbolt, which may have been renamed, and how much of it
// holds nothing.
func dbSizes(db *bolt.DB, path string) (size, free int64) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0
	}
	s := db.Stats()
	return info.Size(), int64(s.FreePageN+s.PendingPageN) * int64(db.Info().PageSize)
}

// Compact writes meta.db anew, without what holds nothing. Publishing goes on meanwhile.
// Segments need none: they are removed whole.
func (l *Log) Compact() error {
	l.upkeep.Lock()
	defer l.upkeep.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	return l.compact()
}

// usable reports why upkeep cannot be asked for.
func (l *Log) usable() error {
	switch l.phase.Load() {
	case phaseNew:
		return broker.ErrLoading
	case phaseClosed:
		return broker.ErrClosed
	}
	return l.failure()
}

// compact does Compact. When it fails before the new file is in its place, the old one is
// used on; after that the log has failed. Log.upkeep is held.
func (l *Log) compact() error {
	if runtime.GOOS == "windows" {
		return errors.New("meta.db cannot be compacted on Windows, where a file that is open cannot be replaced")
	}
	before, _ := dbSizes(l.db, l.metaPath())
	path, part := l.metaPath(), l.metaPath()+".new"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, err := openDB(part, false, true)
	if err != nil {
		return err
	}
	err = guarded(fresh, func(do func(*bolt.Tx) error) error { return do(nil) }, func(*bolt.Tx) error {
		return bolt.Compact(fresh, l.db, compactStep)
	})
	if err = errors.Join(err, fresh.Sync(), fresh.Close()); err != nil {
		return errors.Join(fmt.Errorf("compacting meta.db: %w", err), os.Remove(part))
	}
	// The new file is locked before it is in its place, so that no other process comes
	// between.
	if fresh, err = openDB(part, false, false); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return errors.Join(err, fresh.Close(), os.Remove(part))
	}
	old := l.db
	l.db = fresh
	if err := errors.Join(disk{}.SyncDir(filepath.Dir(path)), old.Close()); err != nil {
		return err
	}
	l.measure()
	l.mu.Lock()
	after := l.dbSize
	l.mu.Unlock()
	l.logger.Info("meta.db of the log was compacted", slog.String("path", l.path), slog.Int64("before", before), slog.Int64("after", after))
	return nil
}
