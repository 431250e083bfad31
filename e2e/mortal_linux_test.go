package e2e

import "syscall"

// mortal makes a process that does not outlive a test run that is killed.
func mortal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
