package boltadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/evstream/caddy-evstream/broker"
)

// After a commit that found no room, nobody may publish any more: a load balancer sends
// publishers elsewhere. So it is upkeep that finds out whether there is room again.

const (
	// roomFile is written to see whether the disk has room, and removed. Start removes
	// what a process has left that was killed.
	roomFile = newPrefix + ".room"
	// minRoom is the least that must have room, in bytes.
	minRoom = 64 << 10
)

// Health implements broker.HealthReporter.
func (l *Log) Health() broker.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := broker.Health{Room: l.full, Failed: l.failed}
	if done, total := l.Loaded(); done < total {
		h.Loading = fmt.Errorf("%w: %d of %d bytes are read", broker.ErrLoading, done, total)
	}
	return h
}

// lookForRoom looks whether what was refused could be stored, and if so forgets that it
// was.
func (l *Log) lookForRoom() {
	l.mu.Lock()
	full, size := l.full, max(int64(l.lacked), minRoom)
	bound, total := l.config.Load().MaxSize, l.size+l.dbSize
	l.mu.Unlock()
	if full == nil || bound > 0 && total+size > bound || l.tryRoom(size) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full == full { //nolint:errorlint // the same one, and not one that came meanwhile
		l.hasRoom()
	}
}

// tryRoom writes a file of that size, and removes it.
func (l *Log) tryRoom(size int64) error {
	path := filepath.Join(l.path, roomFile)
	_ = l.disk.Remove(path) // the last attempt may have failed to
	f, err := l.disk.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, size), 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), l.disk.Remove(path))
}

// hasRoom notes that the log can be written. Log.mu is held.
func (l *Log) hasRoom() {
	if l.full != nil {
		l.logger.Info("the log can be written again", slog.String("path", l.path))
		l.full = nil
	}
}

var _ broker.HealthReporter = (*Log)(nil)
