//go:build !linux

package redistest

import (
	"errors"
	"syscall"
)

// mortal does nothing where a process cannot be tied to its parent.
func mortal() *syscall.SysProcAttr { return nil }

func awaitStopped(int) error { return nil }

func limitFiles(int, uint64) error {
	return errors.New("only Linux bounds the files of another process")
}
