package redistest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// mortal makes a process die with the thread that has started it.
func mortal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// awaitStopped waits until the child has stopped, which it does a little after the
// signal was sent.
func awaitStopped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
