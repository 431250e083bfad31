package boltadapter

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes the content of f durable, and its size.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func syncDir(f *os.File) error { return f.Sync() }

// isFull reports whether there was no room on the disk for a write.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
