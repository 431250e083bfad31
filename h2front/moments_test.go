package h2front

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// scripted is a Conn whose client has sent frames, which the server has read, and what the
// client is sent.
func scripted(t *testing.T, frames ...[]byte) (*Conn, *script) {
	t.Helper()
	sent := []byte(http2.ClientPreface)
	sent = binary.BigEndian.AppendUint32(appendHead(sent, 4, frameWindowUpdate, 0, 0), allowance)
	conn := &script{in: append(sent, bytes.Join(frames, nil)...)}
	c := New(conn, Options{})
	serverReads(t, c, len(conn.in))
	return c, conn
}

// serverReads has the server read n bytes, and returns them.
func serverReads(t *testing.T, c *Conn, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if got, err := io.ReadFull(c, p); err != nil {
		t.Fatalf("the server has read %d of %d bytes: %v", got, n, err)
	}
	return p
}

// serverWrites has the server write frames.
func serverWrites(t *testing.T, c *Conn, frames ...[]byte) {
	t.Helper()
	if _, err := c.Write(bytes.Join(frames, nil)); err != nil {
		t.Fatal(err)
	}
}

// watched takes a stream.
func watched(t *testing.T, c *Conn) *taken {
	t.Helper()
	stream := c.Take(patience)
	if stream == nil {
		t.Fatal("no stream was taken")
	}
	s := &taken{Stream: stream, writes: make(chan struct{}, 1), over: make(chan struct{})}
	s.Watch(s)
	return s
}

var (
	askedFor = appendHead(nil, 0, frameHeaders, flagEndHeaders|flagEndStream, 1)
	answered = appendHead(nil, 0, frameHeaders, flagEndHeaders, 1)
	finished = appendHead(nil, 0, frameData, flagEndStream, 1)
)

func marking(s *taken) []byte {
	return append(appendHead(nil, markerSize, frameData, 0, 1), s.Marker()...)
}

// A client resets a stream whose marker the server has still to write, because it has not
// read the reset yet.
func TestAMarkerAfterAResetTakesNothing(t *testing.T) {
	c, conn := scripted(t, askedFor, appendReset(nil, 1, 8))
	s := watched(t, c)
	serverWrites(t, c, answered, marking(s))
	wait(t, s.over, "hangup")
	if c.hasStreams() {
		t.Error("a stream is taken that the client has reset")
	}
	if _, err := s.Write(nil, []byte("late"), false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write: %v", err)
	}
	if got := conn.out.Bytes(); !bytes.Equal(got, answered) {
		t.Errorf("the client was sent %x", got)
	}
}

// The client does not know of a marker, and does not allow its bytes again; to the server they
// are sent. Otherwise each stream that is taken would cost the server some of its window.
func TestTheServerIsRepaidItsMarker(t *testing.T) {
	c, conn := scripted(t, askedFor)
	s := watched(t, c)
	serverWrites(t, c, answered, marking(s), finished)
	const size = 1000
	s.write(t, string(make([]byte, size)), false)
	allowed := binary.BigEndian.AppendUint32(appendHead(nil, 4, frameWindowUpdate, 0, 0), size)
	conn.in = append(conn.in, allowed...)
	got := serverReads(t, c, headSize+4)
	if want := binary.BigEndian.AppendUint32(appendHead(nil, 4, frameWindowUpdate, 0, 0), markerSize); !bytes.Equal(got, want) {
		t.Errorf("the server has read %x, want %x", got, want)
	}
}

// A stream is ended whose handler has written the marker and not returned yet: the client is
// told when it has.
func TestAStreamThatIsEndedBeforeItsHandlerReturns(t *testing.T) {
	for name, good := range map[string]bool{"in good order": true, "by a reset": false} {
		t.Run(name, func(t *testing.T) {
			streams, then := make(chan *taken, 1), make(chan struct{})
			server := startServer(t, holds(streams, then))
			c := server.dial(t, allowance)
			c.request(1, "/")
			c.opens(1, "opening")
			s := wait(t, streams, "stream")
			s.End(good)
			close(then)
			if good {
				c.data(1, "", true)
			} else if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 || f.ErrCode != http2.ErrCodeInternal {
				t.Fatalf("read %v, want a reset", f)
			}
			if front := wait(t, server.fronts, "connection"); front.hasStreams() {
				t.Error("the stream is not over")
			}
		})
	}
}

// Nothing is written to a stream before the server has ended it.
func TestAStreamIsWrittenAfterItsHandler(t *testing.T) {
	streams, then := make(chan *taken, 1), make(chan struct{})
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain" {
			takes(streams, "")(w, r)
			return
		}
		holds(streams, then)(w, r)
	})
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	if n, err := s.Write([]byte("early"), nil, false); n != 0 || !errors.Is(err, ErrFull) {
		t.Fatalf("a write: %d, %v", n, err)
	}
	c.request(3, "/plain")
	if f, ok := c.next().(*http2.MetaHeadersFrame); !ok || f.StreamID != 3 {
		t.Fatalf("read %v, want the header of the other stream", f)
	}
	c.data(3, "plain", true)
	close(then)
	wait(t, s.writes, "turn")
	s.write(t, "after", true)
	c.data(1, "after", true)
}

// What the client has allowed, and was sent, before a stream is taken counts.
func TestTheWindowOfBeforeIsKept(t *testing.T) {
	const initial, more, opening = 20_000, 500, "opening"
	streams, then := make(chan *taken, 1), make(chan struct{})
	server := startServer(t, holds(streams, then))
	c := server.dial(t, allowance, http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial})
	c.request(1, "/")
	c.opens(1, opening)
	s := wait(t, streams, "stream")
	c.must(c.framer.WriteWindowUpdate(1, more))
	c.must(c.framer.WritePing(false, [8]byte{1}))
	if _, ok := c.next().(*http2.PingFrame); !ok {
		t.Fatal("no answer to a PING")
	}
	close(then)
	wait(t, s.writes, "turn")
	all := make([]byte, initial+more-len(opening)+1)
	done := make(chan error, 1)
	go func() { done <- s.tryWrite(string(all), false) }()
	c.data(1, string(all[1:]), false)
	c.must(c.framer.WriteWindowUpdate(1, 1))
	c.data(1, string(all[:1]), false)
	if err := wait(t, done, "write"); err != nil {
		t.Fatal(err)
	}
}

// A stream is taken of a request that is not over. It is reset, for the server goes on with
// the request: the client does not take that for the end of the answer.
func TestAStreamOfAnUnfinishedRequestIsOver(t *testing.T) {
	c, conn := scripted(t, appendHead(nil, 0, frameHeaders, flagEndHeaders, 1))
	s := watched(t, c)
	serverWrites(t, c, answered, marking(s), finished)
	wait(t, s.over, "hangup")
	if got, want := conn.out.Bytes(), appendReset(bytes.Clone(answered), 1, codeInternal); !bytes.Equal(got, want) {
		t.Errorf("the client was sent %x, want %x", got, want)
	}
}

// leaving is a client's connection from which the server's last read is under way.
type leaving struct {
	script
	front *Conn
}

func (l *leaving) Read(p []byte) (int, error) {
	l.front.alone.Store(true)
	return l.script.Read(p)
}

// TestAFrameComesWhileTheServerGoes has it be answered by who reads then.
func TestAFrameComesWhileTheServerGoes(t *testing.T) {
	ping := append(appendHead(nil, pingSize, framePing, 0, 0), "question"...)
	conn := &leaving{script: script{in: bytes.Clone(ping), cut: 16}}
	c := New(conn, Options{})
	c.in.preface, c.leaving, c.taken = 0, true, []*Stream{{conn: c, id: 1, open: true}}
	conn.front = c
	if n, err := c.Read(make([]byte, 100)); n > 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("the server has read %d bytes, %v", n, err)
	}
	if c.wait() {
		t.Fatal("a server is to come")
	}
	ping[4] = flagAck
	if got := conn.out.Bytes(); !bytes.Equal(got, ping) {
		t.Fatalf("the client was sent %x, want %x", got, ping)
	}
}

// TestWhatIsSentToAConnectionThatEndsIsRead has a client speak that was told that nothing more comes.
func TestWhatIsSentToAConnectionThatEndsIsRead(t *testing.T) {
	for name, ends := range map[string]func(*Conn){
		"it was idle for too long": func(c *Conn) { c.over = true },
		"its last stream is over":  func(c *Conn) { c.leaving = true },
	} {
		t.Run(name, func(t *testing.T) {
			conn := &script{in: make([]byte, 100_000)}
			c := New(conn, Options{})
			ends(c)
			c.alone.Store(true)
			if c.wait() || len(conn.in) > 0 || !c.broken {
				t.Fatalf("a server is to come, or %d bytes are left", len(conn.in))
			}
		})
	}
}

// TestALastStreamEndsJustBeforeTheServerGoes has its client have the time to leave that it has
// with other servers.
func TestALastStreamEndsJustBeforeTheServerGoes(t *testing.T) {
	for name, test := range map[string]struct {
		ago   time.Duration
		alone bool
	}{"just now": {0, true}, "long ago": {lingers, false}} {
		t.Run(name, func(t *testing.T) {
			c := New(new(script), Options{})
			s := &Stream{conn: c, id: 1, open: true}
			c.taken = []*Stream{s}
			s.End(true)
			c.lastEnd = c.lastEnd.Add(-test.ago)
			c.leaving = true
			if err := c.Close(); err != nil || c.alone.Load() != test.alone {
				t.Errorf("%v, alone: %v", err, c.alone.Load())
			}
		})
	}
}

// stuck is a client's connection of which a read does not end, whatever its deadline is.
type stuck struct {
	script
	closed chan struct{}
}

func (s *stuck) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

func (s *stuck) Close() error {
	close(s.closed)
	return nil
}

// TestAConnectionThatEndsIsNotReadForEver has TLS wait for the client while it reads.
func TestAConnectionThatEndsIsNotReadForEver(t *testing.T) {
	c := New(&stuck{closed: make(chan struct{})}, Options{})
	c.limit, c.leaving = time.Millisecond, true
	c.alone.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.wait()
	}()
	wait(t, done, "end")
}
