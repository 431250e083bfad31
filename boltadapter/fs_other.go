//go:build !linux

package boltadapter

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// syncData makes the content of f durable, and its size.
func syncData(f *os.File) error { return f.Sync() }

// syncDir does nothing on Windows, which has no such call: a file that was made is
// durable with its content there.
func syncDir(f *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return f.Sync()
}

// isFull reports whether there was no room on the disk for a write. On Windows these are
// ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
func isFull(err error) bool {
	if runtime.GOOS == "windows" {
		return errors.Is(err, syscall.Errno(39)) || errors.Is(err, syscall.Errno(112))
	}
	return errors.Is(err, syscall.ENOSPC)
}
