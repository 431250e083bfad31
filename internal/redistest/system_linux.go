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

// limitFiles bounds the size of the files that a process writes; 0 is no bound.
func limitFiles(pid int, bytes uint64) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &limit); err != nil {
		return err
	}
	limit.Cur = bytes
	if bytes == 0 {
		limit.Cur = limit.Max
	}
	return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil)
}
