package redistest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// mortal makes a process that dies with the thread that started it.
func mortal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// awaitStopped returns when the child has stopped: the signal that stops it is
// heeded a little after it was sent.
func awaitStopped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
