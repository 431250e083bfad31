package nettest

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTwoListenersOfAnAddressAreSeen(t *testing.T) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		control := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(control, err)
	}}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		one, err := config.Listen(context.Background(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		two, err := config.Listen(context.Background(), "tcp", one.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := sharedAddress(os.Getpid()); twice == "" || err != nil {
			t.Errorf("two that listen on %s are not seen: %v", one.Addr(), err)
		}
		if err := two.Close(); err != nil {
			t.Fatal(err)
		}
		Settled(t, os.Getpid())
	}
}
