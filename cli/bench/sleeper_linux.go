package bench

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper waits for a time. The runtime's timers are up to a millisecond late where it
// sleeps in epoll_wait, which counts milliseconds; a timerfd is not.
type sleeper struct {
	file *os.File // nil: there is none
}

func newSleeper() *sleeper {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &sleeper{}
	}
	return &sleeper{os.NewFile(uintptr(fd), "timerfd")}
}

// until waits, and returns false if ctx has ended.
func (s *sleeper) until(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	switch {
	case ctx.Err() != nil:
		return false
	case d <= 0:
		return true
	case s.file == nil || s.set(d) != nil:
		return sleepUntil(ctx, at)
	}
	_ = s.file.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var expirations [8]byte
	_, err := s.file.Read(expirations[:])
	return err == nil && ctx.Err() == nil
}

// set has the timer fire once.
func (s *sleeper) set(d time.Duration) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	}); err != nil {
		return err
	}
	return failed
}

func (s *sleeper) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
