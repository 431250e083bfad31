package boltadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Config is where the log is, and what it promises.
type Config struct {
	// Path is the directory of the log. It is made if it is not there; its parent must
	// be there, or be possible to make. Required.
	Path string

	// SyncEvery is how long commits wait for more operations, at most a second; 0 is
	// not at all. Each operation is acknowledged when it is on the disk, so a longer time
	// loses nothing: it costs publishers that time, and saves writes.
	SyncEvery time.Duration
	// NoSync acknowledges operations that only the operating system has: they survive
	// the end of the process, and not that of the machine.
	NoSync bool

	// MaxSize bounds the size of the directory, in bytes: over it, operations are refused
	// with broker.ErrFull until old segments have been removed. 0 is no bound; else at
	// least 64 MiB, and more than Retain.
	MaxSize int64
	// Retain bounds the size of the segments, in bytes; at least 32 MiB. Over it the
	// oldest segments are removed, whatever the age of their entries is. A segment goes
	// only when no idempotency key in it can be asked for any more, so the directory may
	// be larger for five minutes.
	Retain int64

	// Logger gets what an operator should know. Nil is slog.Default.
	Logger *slog.Logger
}

// DefaultConfig is the configuration of a log in the directory path.
func DefaultConfig(path string) Config { return Config{Path: path, Retain: 1 << 30} }

// Bounds of the configuration.
const (
	MaxSyncEvery = time.Second
	MinSize      = 64 << 20
	MinRetain    = 32 << 20
)

// Validate reports the first invalid value. It does not touch the disk.
func (c *Config) Validate() error {
	switch {
	case c.Path == "":
		return errors.New("a log on the disk needs the path of a directory")
	case c.SyncEvery < 0 || c.SyncEvery > MaxSyncEvery:
		return fmt.Errorf("the time between syncs must be 0 to %s, not %s", MaxSyncEvery, c.SyncEvery)
	case c.NoSync && c.SyncEvery > 0:
		return errors.New("a log that does not sync has no time between syncs")
	case c.Retain < MinRetain:
		return fmt.Errorf("the size of the segments that are kept must be at least %d bytes, not %d", MinRetain, c.Retain)
	case c.MaxSize != 0 && c.MaxSize < MinSize:
		return fmt.Errorf("the size of the directory must be at least %d bytes, not %d; 0 is no bound", MinSize, c.MaxSize)
	case c.MaxSize != 0 && c.MaxSize <= c.Retain:
		return fmt.Errorf("the size of the directory (%d bytes) must be more than that of the segments that are kept (%d bytes)", c.MaxSize, c.Retain)
	}
	return nil
}

// sameLog reports whether c and other name the same directory.
func (c *Config) sameLog(other *Config) bool {
	a, errA := filepath.Abs(c.Path)
	b, errB := filepath.Abs(other.Path)
	return errA == nil && errB == nil && a == b
}
