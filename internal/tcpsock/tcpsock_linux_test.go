package tcpsock

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds how long a test waits for what must happen.
const patience = 30 * time.Second

// pair returns both sides of a connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	there, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = here.Close()
		_ = there.Close()
	})
	return here.(*net.TCPConn), there.(*net.TCPConn)
}

// A client that reads nothing until there is no room, and then all of it, makes no write
// wait: what there is room for is taken, and room that comes is told.
func TestWhatThereIsRoomForIsTaken(t *testing.T) {
	for name, tt := range map[string]struct {
		buffer, segment int // 0: as the system has them
		packet          func(*rand.Rand) int
	}{
		"default":                       {0, 0, func(*rand.Rand) int { return most }},
		"a small buffer":                {16 << 10, 0, func(*rand.Rand) int { return most }},
		"the smallest buffer":           {1, 0, func(*rand.Rand) int { return most }},
		"packets of a kilobyte":         {32 << 10, 0, func(*rand.Rand) int { return least }},
		"small segments":                {64 << 10, 536, func(r *rand.Rand) int { return 1 + r.IntN(most) }},
		"small segments, small packets": {16 << 10, 536, func(r *rand.Rand) int { return 1 + r.IntN(2*least) }},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			fd, ok := FD(near)
			if !ok {
				t.Fatal("the system does not tell")
			}
			for _, set := range [][3]int{
				{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, UnsentLimit},
				{unix.SOL_SOCKET, unix.SO_SNDBUF, tt.buffer},
				{unix.IPPROTO_TCP, unix.TCP_MAXSEG, tt.segment},
			} {
				if set[2] == 0 {
					continue
				}
				if err := unix.SetsockoptInt(fd, set[0], set[1], set[2]); err != nil {
					t.Fatal(set, err)
				}
			}
			if err := far.SetReadBuffer(32 << 10); err != nil {
				t.Fatal(err)
			}
			writable := watch(t, fd)
			rng := rand.New(rand.NewPCG(uint64(tt.buffer), uint64(tt.segment)))
			written := 0
			for range 40 {
				room := Room(fd)
				for ; room > 0; room = Room(fd) {
					for left := min(room, tt.packet(rng)); left > 0; {
						packet := min(left, max(least, rng.IntN(most)))
						n, err := unix.SendmsgN(fd, make([]byte, packet), nil, nil, unix.MSG_DONTWAIT)
						if err != nil || n < packet {
							t.Fatalf("of %d bytes, for which there was room, %d are taken after %d: %v", packet, n, written, err)
						}
						left -= n
						written += n
					}
				}
				if _, err := io.CopyN(io.Discard, far, int64(written)); err != nil {
					t.Fatal(err)
				}
				written = 0
				writable()
			}
		})
	}
}

// watch watches a socket, and returns a function that waits until it is writable again.
func watch(t *testing.T, fd int) (writable func()) {
	t.Helper()
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(epfd) })
	event := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		t.Fatal(err)
	}
	events := make([]unix.EpollEvent, 1)
	writable = func() {
		t.Helper()
		for until := time.Now().Add(patience); time.Now().Before(until); {
			if n, err := unix.EpollWait(epfd, events, int(patience.Milliseconds())); n == 1 {
				return
			} else if err != unix.EINTR {
				break
			}
		}
		t.Fatal("room is not told of")
	}
	writable() // as it is when it is watched
	return writable
}

func TestASocketThatIsBrokenIsWrittenTo(t *testing.T) {
	near, far := pair(t)
	fd, ok := FD(near)
	if !ok {
		t.Fatal("the system does not tell")
	}
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if n := Room(fd); n == 0 {
		t.Error("there is no room in a broken socket: nobody would find out")
	}
	if n := Room(1 << 20); n == 0 {
		t.Error("there is no room in what is no socket")
	}
}

func TestWhatIsUnreadIsCountedAndThrownAway(t *testing.T) {
	near, far := pair(t)
	fd, ok := FD(near)
	if !ok {
		t.Fatal("the system does not tell")
	}
	if n := Unread(fd); n != 0 {
		t.Errorf("%d bytes are unread", n)
	}
	if _, err := fmt.Fprint(far, "hello"); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(patience); Unread(fd) != 5; {
		if time.Now().After(until) {
			t.Fatalf("%d bytes are unread", Unread(fd))
		}
	}
	DiscardInput(fd)
	if n := Unread(fd); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	if n := Unread(1 << 20); n != 0 {
		t.Errorf("%d bytes are unread in what is no socket", n)
	}
}
