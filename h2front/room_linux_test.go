package h2front

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// pair returns both sides of a connection. Options of the client's socket are set before it
// is connected.
func pair(t *testing.T, options ...[3]int) (near, far *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) {
			for _, o := range options {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), o[0], o[1], o[2]))
			}
		})
		return err
	}}
	there, err := dialer.Dial("tcp", listener.Addr().String())
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

// roomFor is hasRoom for who does not write.
func (c *Conn) roomFor(n int) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.hasRoom(n)
}

// TestWhatThereIsRoomForIsTaken has a client read nothing until there is no room, and then all of
// it: what there was room for was taken at once, in the packets that TLS makes.
func TestWhatThereIsRoomForIsTaken(t *testing.T) {
	small := func(r *rand.Rand) int { return headSize + r.IntN(300) }
	large := func(r *rand.Rand) int { return 1 + r.IntN(headSize+maxPiece) }
	for name, tt := range map[string]struct {
		buffer, segment int // 0: as the system has them
		window          int // what the client's system takes in advance
		size            func(*rand.Rand) int
	}{
		"default":                       {0, 0, 32 << 10, large},
		"small events":                  {0, 0, 32 << 10, small},
		"a small buffer":                {32 << 10, 0, 32 << 10, large},
		"small events, a small buffer":  {16 << 10, 0, 32 << 10, small},
		"the smallest buffer":           {1, 0, 32 << 10, small},
		"small segments":                {64 << 10, 536, 32 << 10, large},
		"small events, small segments":  {24 << 10, 536, 1, small},
		"the smallest segments, window": {24 << 10, 88, 1, func(r *rand.Rand) int { return 1 + r.IntN(1500) }},
	} {
		t.Run(name, func(t *testing.T) {
			options := [][3]int{{unix.SOL_SOCKET, unix.SO_RCVBUF, tt.window}}
			if tt.segment != 0 {
				options = append(options, [3]int{unix.IPPROTO_TCP, unix.TCP_MAXSEG, tt.segment})
			}
			near, far := pair(t, options...)
			c := New(near, Options{})
			if tt.buffer != 0 {
				if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, tt.buffer); err != nil {
					t.Fatal(err)
				}
			}
			rng := rand.New(rand.NewPCG(uint64(tt.buffer), uint64(tt.segment)))
			rounds := 30
			if tt.window == 1 {
				rounds = 1 // it reads no more than a packet at a time, with pauses
			}
			for round := range rounds {
				written := 0
				for n := tt.size(rng); c.roomFor(n); n = tt.size(rng) {
					c.out.room.wrote(n)
					for left := n; left > 0; {
						record := min(left, recordSize+rng.IntN(16<<10))
						packet := make([]byte, record+recordOverhead/2)
						if k, err := unix.SendmsgN(c.fd, packet, nil, nil, unix.MSG_DONTWAIT); err != nil || k < len(packet) {
							t.Fatalf("of %d bytes, for which there was room, %d are taken after %d: %v", len(packet), k, written, err)
						}
						left -= record
						written += len(packet)
					}
				}
				if tt.segment != 0 && c.out.room.packet > tt.segment {
					t.Fatalf("packets of %d bytes are counted as one of %d", tt.segment, c.out.room.packet)
				}
				if written == 0 && !c.roomFor(1) {
					t.Fatal("there was no room at all")
				}
				if queued, err := unix.IoctlGetInt(c.fd, unix.TIOCOUTQ); err != nil || queued > roomy+2*recordSize {
					t.Fatalf("%d bytes are on their way, %v", queued, err)
				}
				if round == rounds-1 {
					break
				}
				if _, err := io.CopyN(io.Discard, far, int64(written)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "room for an event", func() bool { return c.roomFor(1) })
			}
		})
	}
}

// TestTheSystemIsAskedOnceForManyEvents counts the events after which room is not known any
// more, by a socket that cannot be asked again.
func TestTheSystemIsAskedOnceForManyEvents(t *testing.T) {
	const event, least, most = 200, 40, roomy / 200
	near, _ := pair(t)
	if err := near.SetWriteBuffer(100 << 10); err != nil { // so that the memory is not what is short
		t.Fatal(err)
	}
	c := New(near, Options{})
	fd := c.fd
	events := func() (n int) {
		c.fd = fd
		if !c.roomFor(event) {
			t.Fatal("there is no room in an empty socket")
		}
		for c.fd = 1 << 20; c.roomFor(event); n++ {
			c.out.room.wrote(event)
		}
		return n
	}
	first := events()
	if first < least || first > most {
		t.Errorf("the system is asked after %d events", first)
	}
	if n := events(); n != first {
		t.Errorf("once it was asked again, it is asked after %d events, and was after %d", n, first)
	}
	c.fd = fd
	_ = c.roomFor(event)
	used, size, ok := tcpsock.SendBuffer(fd)
	if left := size - used - c.out.room.memory; !ok || left < 16*(seenMemory+recordOverhead) {
		t.Errorf("of the socket's memory %d bytes are left for what TLS writes", left)
	}
	c.fd = 1 << 20
	c.out.room.stale()
	for range 2 {
		if c.roomFor(event) {
			t.Error("there is room, though something was read")
		}
	}
	c.fd = fd
	if c.out.room.wrote(1 << 20); !c.roomFor(headSize + maxPiece) {
		t.Error("there is no room in an empty socket after much was written")
	}
}

// TestWhatIsWrittenIsCounted writes as the server does.
func TestWhatIsWrittenIsCounted(t *testing.T) {
	near, _ := pair(t)
	c := New(near, Options{})
	if !c.roomFor(1) {
		t.Fatal("there is no room in an empty socket")
	}
	bytes, memory := c.out.room.bytes, c.out.room.memory
	if _, err := c.Write(appendGoAway(appendHead(nil, 0, frameHeaders, flagEndHeaders, 1), 1, codeInternal)); err != nil {
		t.Fatal(err)
	}
	if now := &c.out.room; now.bytes > bytes-headSize-headSize || now.memory > memory-seenMemory {
		t.Errorf("of %d bytes in %d of memory there are left %d and %d", bytes, memory, now.bytes, now.memory)
	}
}

// TestAReadHasTheSystemBeAskedAgain has TLS read, which may have answered by itself.
func TestAReadHasTheSystemBeAskedAgain(t *testing.T) {
	near, far := pair(t)
	c := New(near, Options{})
	if !c.roomFor(1) || !c.out.room.told.Load() {
		t.Fatal("the system is not asked")
	}
	if _, err := far.Write([]byte("P")); err != nil {
		t.Fatal(err)
	}
	if n := c.receive(make([]byte, 1)); n != 1 || c.out.room.told.Load() {
		t.Fatalf("%d bytes were read, and what was known of the socket counts still", n)
	}
}

// counter counts what is written to a connection.
type counter struct {
	net.Conn
	bytes, writes int
}

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	c.writes++
	return c.Conn.Write(p)
}

// seenMemory is what the system needs for a packet besides its bytes.
const seenMemory = 832

// TestRecordsNeedNoMoreThanIsCounted compares what TLS makes of writes with needs.
func TestRecordsNeedNoMoreThanIsCounted(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	suites := map[string]*tls.Config{"1.3": {MinVersion: tls.VersionTLS13}}
	for _, suite := range tls.CipherSuites() {
		if suite.SupportedVersions[0] == tls.VersionTLS12 {
			suites[suite.Name] = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}
		}
	}
	served := 0
	for name, config := range suites {
		config.Certificates = server.TLS.Certificates
		near, far := pair(t)
		count := &counter{Conn: near}
		over := tls.Server(count, config)
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, tls.Client(far, &tls.Config{InsecureSkipVerify: true})) //nolint:gosec // it is the test's own
			done <- err
		}()
		_ = over.SetDeadline(time.Now().Add(patience))
		if over.Handshake() != nil { // the certificate is of another kind
			_ = over.Close()
			wait(t, done, "error")
			continue
		}
		served++
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			n := 1 + rng.IntN([]int{10, 2 * recordSize, headSize + maxPiece, 1 << 18}[i%4])
			count.bytes, count.writes = 0, 0
			if _, err := over.Write(make([]byte, n)); err != nil {
				t.Fatal(name, err)
			}
			bytes, memory := (&room{packet: packetSize}).needs(n)
			if count.bytes > bytes || count.bytes < n || bytes > n+n/10+recordOverhead || memory < bytes+count.writes*seenMemory {
				t.Fatalf("%s: %d bytes are %d in %d records, and count as %d in %d bytes of memory", name, n, count.bytes, count.writes, bytes, memory)
			}
		}
		_ = over.Close()
		if err := wait(t, done, "end"); err != nil {
			t.Fatal(name, err)
		}
	}
	if served < 3 {
		t.Fatalf("%d cipher suites were tried", served)
	}
}
