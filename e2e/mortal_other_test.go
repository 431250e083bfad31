//go:build !linux

package e2e

import "syscall"

// mortal does nothing where a process cannot be tied to its parent.
func mortal() *syscall.SysProcAttr { return nil }
