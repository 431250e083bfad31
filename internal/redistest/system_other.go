//go:build !linux

package redistest

import "syscall"

// mortal does nothing where a process cannot be tied to its parent.
func mortal() *syscall.SysProcAttr { return nil }

func awaitStopped(int) error { return nil }
