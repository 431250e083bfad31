package parked

import (
	"bytes"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evstream/caddy-evstream/internal/leaktest"
	"github.com/evstream/caddy-evstream/internal/mutation"
	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

// patience bounds how long a test waits for what must happen.
var patience = mutation.Patience(30 * time.Second)

// watched is a Watcher.
type watched struct{ writable, hungUp chan struct{} }

func (w watched) OnWritable() { note(w.writable) }
func (w watched) OnHangup()   { note(w.hungUp) }

func note(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is a note already
	}
}

// await waits for a note.
func await(t *testing.T, c chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("nobody tells of", what)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); {
		if time.Now().After(until) {
			t.Fatal("there never is", what)
		}
	}
}

// wasRead waits until the connection was read for the first time: nobody reads it from then on
// before it is told to.
func (c *Conn) wasRead(t *testing.T) {
	t.Helper()
	eventually(t, "nobody who reads", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.turns < maxTurns
	})
}

// park returns a parked connection and its client. If watch is set it is watched by an
// epoll instance, as it is in use.
func park(t *testing.T, watch bool) (*Conn, watched, *recordClient) {
	t.Helper()
	site := httptest.NewUnstartedServer(nil) // for its certificate
	site.StartTLS()
	site.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	far, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	over := tls.Server(near, &tls.Config{Certificates: site.TLS.Certificates})
	shaken := make(chan error, 1)
	go func() { shaken <- over.Handshake() }()
	client := newRecordClient(t, far.(*net.TCPConn))
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	g := NewGroup()
	c := g.Conn(over)
	if c == nil {
		t.Fatal("the connection cannot be parked")
	}
	w := watched{make(chan struct{}, 1), make(chan struct{}, 1)}
	c.Watch(w)
	stop := func() {}
	if watch {
		stop = poll(t, c)
	}
	t.Cleanup(func() {
		c.Close(true)
		stop()
		g.Close()
		_ = far.Close()
	})
	return c, w, client
}

// poll tells c of its socket until stop is called.
func poll(t *testing.T, c *Conn) (stop func()) {
	t.Helper()
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, c.FD(), &event); err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, pipe[0], &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 1}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		events := make([]unix.EpollEvent, 2)
		for {
			n, err := unix.EpollWait(epfd, events, -1)
			if err != nil && err != unix.EINTR {
				return
			}
			for _, e := range events[:max(n, 0)] {
				switch {
				case e.Fd == 1:
					return
				case e.Events&unix.EPOLLOUT != 0:
					c.Writable()
				}
				if e.Events&unix.EPOLLIN != 0 {
					c.Readable()
				}
			}
		}
	}()
	return func() {
		_, _ = unix.Write(pipe[1], []byte{0})
		<-done
		for _, fd := range []int{epfd, pipe[0], pipe[1]} {
			_ = unix.Close(fd)
		}
	}
}

// write writes all of what is given.
func write(t *testing.T, c *Conn, w watched, pieces ...string) {
	t.Helper()
	left := []byte{}
	for _, p := range pieces {
		left = append(left, p...)
	}
	for len(left) > 0 {
		n, err := c.Write(left)
		left = left[n:]
		switch {
		case errors.Is(err, ErrFull):
			await(t, w.writable, "room")
		case err != nil:
			t.Fatal(err)
		}
	}
}

// fill writes until there is no room, and none comes unless the client reads. It returns
// how many bytes were written.
func fill(t *testing.T, c *Conn) (written int) {
	t.Helper()
	for {
		n, err := c.Write(make([]byte, 5000))
		written += n
		switch {
		case errors.Is(err, ErrFull):
			eventually(t, "nothing on its way", func() bool {
				info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
				return err == nil && info.Unacked == 0
			})
			if tcpsock.Room(c.fd) == 0 {
				return written
			}
		case err != nil:
			t.Fatal(err)
		}
	}
}

func TestThePiecesOfAWriteAreOneRecord(t *testing.T) {
	c, w, client := park(t, true)
	pieces := [][]byte{[]byte("5\r\n"), nil, []byte("hello"), []byte("\r\n")}
	n, err := c.Write(pieces...)
	for ; errors.Is(err, ErrFull); n, err = c.Write(pieces...) {
		await(t, w.writable, "the end of the first read")
	}
	if n != 10 || err != nil {
		t.Fatal(n, err)
	}
	client.expect(typeData, "5\r\nhello\r\n")
}

// The client reads nothing before a write has said that there is no room: a write that
// waits for it waits for ever.
func TestNoWriteWaitsForTheClient(t *testing.T) {
	c, w, client := park(t, true)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		written := 0
		for {
			pieces := [][]byte{make([]byte, rng.IntN(10)), make([]byte, 1+rng.IntN(1000)), make([]byte, rng.IntN(20<<10))}
			n, err := c.Write(pieces...)
			if written += n; errors.Is(err, ErrFull) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if round%3 == 0 {
			client.write(client.keyUpdate(1)) // is answered when there is room
		}
		client.readData(written)
		await(t, w.writable, "room")
	}
}

func TestAKeyUpdateIsAnswered(t *testing.T) {
	c, w, client := park(t, true)
	for range 3 {
		client.write(client.keyUpdate(1))
		client.expect(typeHandshake, "\x18\x00\x00\x01\x00")
		write(t, c, w, "under new keys")
		client.expect(typeData, "under new keys")
	}
	client.write(client.keyUpdate(0))
	client.write(client.seal(typeAlert, 1, 0))
	await(t, w.hungUp, "the close_notify")
	write(t, c, w, "the client may still read")
	client.expect(typeData, "the client may still read")
}

// What is not whole is kept until the rest comes.
func TestAKeyUpdateMayComeInPieces(t *testing.T) {
	c, w, client := park(t, true)
	record := client.keyUpdate(1)
	last := len(record) - 1
	for _, b := range record[:last] {
		client.write([]byte{b})
		eventually(t, "a read of the byte", func() bool { return tcpsock.Unread(c.fd) == 0 })
		write(t, c, w, "x")
		client.expect(typeData, "x")
	}
	client.write(record[last:])
	client.expect(typeHandshake, "\x18\x00\x00\x01\x00")
	write(t, c, w, "y")
	client.expect(typeData, "y")
}

// The answer to a KeyUpdate does not wait for room: it is read when there is some.
func TestAKeyUpdateToAFullSocketIsReadLater(t *testing.T) {
	c, w, client := park(t, false)
	c.wasRead(t)
	written := fill(t, c)
	client.write(client.keyUpdate(1))
	eventually(t, "the input", func() bool { return tcpsock.Unread(c.fd) > 0 })
	c.Readable()
	eventually(t, "no room for the answer", func() bool {
		c.mu.Lock() // nobody is about to find out
		defer c.mu.Unlock()
		return c.delayed.Load()
	})
	if updates := client.readData(written); updates > 0 {
		t.Errorf("%d KeyUpdates came before what was written", updates)
	}
	eventually(t, "room", func() bool { return tcpsock.Room(c.fd) > 0 })
	c.Writable()
	client.expect(typeHandshake, "\x18\x00\x00\x01\x00")
	write(t, c, w, "x")
	client.expect(typeData, "x")
}

// What has come with the last that the server has read is in the tls.Conn, and nobody
// tells of it.
func TestWhatWasReadOfTheSocketBeforeIsReadToo(t *testing.T) {
	c, w, client := park(t, false)
	c.wasRead(t)
	client.write(client.seal(typeData, 'x'), client.seal(typeAlert, 1, 0))
	eventually(t, "the input", func() bool { return tcpsock.Unread(c.fd) > 40 })
	if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.conn.Read(make([]byte, 1)); n != 1 {
		t.Fatal("nothing is read")
	}
	c.Watch(w)
	await(t, w.hungUp, "the close_notify")
}

func TestWhatEndsAConnection(t *testing.T) {
	for name, say := range map[string]func(*recordClient){
		"close_notify":      func(client *recordClient) { client.write(client.seal(typeAlert, 1, 0)) },
		"a fatal alert":     func(client *recordClient) { client.write(client.seal(typeAlert, 2, 80)) },
		"no record":         func(client *recordClient) { client.write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"a record replayed": func(client *recordClient) { r := client.seal(typeData, 'x'); client.write(r, r) },
		"half a record":     func(client *recordClient) { client.write([]byte{23, 3, 3}); _ = client.conn.CloseWrite() },
		"many KeyUpdates": func(client *recordClient) {
			for range 20 {
				client.write(client.keyUpdate(1))
			}
		},
		"many KeyUpdates at once": func(client *recordClient) {
			var all [][]byte
			for range 20 {
				all = append(all, client.keyUpdate(1))
			}
			client.write(all...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, w, client := park(t, true)
			say(client)
			await(t, w.hungUp, "the end")
		})
	}
}

// A client that goes on talking is not read for ever, and gets what is written.
func TestWhatAClientSaysIsReadABoundedNumberOfTimes(t *testing.T) {
	c, w, client := park(t, true)
	record := make([]byte, 8<<10)
	const most = 64 << 20 // is more than is read, and more than the system takes
	for written := 0; ; written += len(record) {
		if written > most {
			t.Fatal("it is read for ever")
		}
		_ = client.conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // the system has taken all that it takes
		if _, err := client.conn.Write(client.seal(typeData, record...)); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "an end of that", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.turns == 0
	})
	write(t, c, w, "x")
	client.expect(typeData, "x")
}

// The bound on the answer to a KeyUpdate is none on what is written later.
func TestAWriteAfterAReadHasNoDeadline(t *testing.T) {
	c, w, client := park(t, false)
	c.mu.Lock()
	c.group.answerWait = -time.Second // the deadline of a read is over at once
	turns := c.turns
	c.mu.Unlock()
	c.Readable()
	eventually(t, "a read", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.turns < turns
	})
	write(t, c, w, "x")
	client.expect(typeData, "x")
}

func TestAWriteThatIsStuckBreaksTheConnection(t *testing.T) {
	c, _, client := park(t, false)
	w := newWriter(20 * time.Millisecond)
	for range 3 { // the timer runs, and stops when there is nothing to guard
		if _, err := w.write(c.conn, [][]byte{[]byte("x")}, 1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an idle timer", func() bool { return !w.running.Load() })
	}
	client.readData(3)
	const much = 32 << 20 // for which there is no room
	if _, err := w.write(c.conn, [][]byte{make([]byte, much)}, much); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ends with %v", err)
	}
}

func TestTheEndOfAConnection(t *testing.T) {
	t.Run("soft", func(t *testing.T) {
		c, w, client := park(t, true)
		client.write(client.seal(typeData, bytes.Repeat([]byte("x"), 100)...))
		write(t, c, w, "the last")
		c.mu.Lock()
		c.turns = 0 // what comes now is not read
		c.mu.Unlock()
		client.write(client.seal(typeData, bytes.Repeat([]byte("y"), 100)...))
		eventually(t, "the input", func() bool { return tcpsock.Unread(c.fd) > 0 })
		c.Close(false)
		client.expect(typeData, "the last")
		client.expectEnd(true)
	})
	t.Run("soft, without room", func(t *testing.T) {
		c, _, client := park(t, true)
		written := fill(t, c)
		c.Close(false)
		client.readData(written)
		client.expectEnd(false)
	})
	t.Run("hard", func(t *testing.T) {
		c, _, client := park(t, true)
		fill(t, c)
		c.Close(true)
		for {
			if _, _, err := client.read(); errors.Is(err, syscall.ECONNRESET) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Whoever reads has the connection locked: a write says that there is no room, and a
// close is done afterwards.
func TestNobodyWaitsForWhoeverReads(t *testing.T) {
	c, w, client := park(t, false)
	c.mu.Lock()
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, ErrFull) {
		t.Errorf("%d, %v", n, err)
	}
	c.mu.Unlock()
	c.Readable()
	await(t, w.writable, "the end of the read")
	write(t, c, w, "x")
	client.expect(typeData, "x")
	c.mu.Lock()
	c.Close(false)
	closed := c.closed
	c.mu.Unlock()
	if closed {
		t.Error("it was closed while it was read")
	}
	c.Readable()
	client.expectEnd(true)
}

// notTCP is a connection that only seems to be over TCP.
type notTCP struct{ net.Conn }

func TestWhatIsNotOverTCPIsNotParked(t *testing.T) {
	g := NewGroup()
	defer g.Close()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for name, conn := range map[string]net.Conn{"a pipe": near, "wrapped": notTCP{new(net.TCPConn)}, "closed": new(net.TCPConn)} {
		if c := g.Conn(tls.Server(conn, &tls.Config{})); c != nil {
			t.Errorf("%s is parked", name)
		}
	}
}
