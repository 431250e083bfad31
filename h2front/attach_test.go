package h2front

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// late is a connection of which a server reads no more than the preface before it has written
// a GOAWAY frame.
type late struct {
	net.Conn
	read int
	shut func() // is called when the servers know of it
	gone chan struct{}
	once sync.Once
}

func (l *late) Read(p []byte) (int, error) {
	if l.read == len(preface) {
		<-l.gone
		return l.Conn.Read(p)
	}
	if l.read == 0 {
		l.shut()
	}
	n, err := l.Conn.Read(p[:min(len(p), len(preface)-l.read)])
	l.read += n
	return n, err
}

func (l *late) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	for b := p; len(b) >= headSize; b = b[headSize+parseHead(b).length:] {
		if parseHead(b).kind == frameGoAway {
			l.once.Do(func() { close(l.gone) })
		}
	}
	return n, err
}

// TestAServerLeavesBeforeItIsPrimed has a server be shut down that knows of no stream yet: the client
// is not told that none of its streams was served.
func TestAServerLeavesBeforeItIsPrimed(t *testing.T) {
	t.Parallel()
	calls := 0
	c, s, _, _ := parked(t, func(s *testServer) {
		s.wrap = func(conn net.Conn) net.Conn {
			if calls++; calls == 1 {
				return conn
			}
			return &late{Conn: conn, gone: make(chan struct{}), shut: func() { s.shutDown(t) }}
		}
	})
	c.request(3, "/plain") // comes too late, as the client is told
	if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeNo || f.LastStreamID != 1 {
		t.Fatalf("read %v, want GOAWAY after stream 1", f)
	}
	c.pings(1)
	s.write(t, "last", true)
	c.data(1, "last", true)
}

// TestWhatANewServerIsTold has a server come to connections that are parked.
func TestWhatANewServerIsTold(t *testing.T) {
	t.Parallel()
	ack := appendHead(nil, 0, frameSettings, flagAck, 0)
	used := appendHead(nil, 0, frameHeaders, flagEndHeaders|flagEndStream, 5)
	one := []byte{0, settingInitialWindow, 0, 0, 100, 0}
	for name, test := range map[string]struct {
		window, credit        int64
		told, kept            []byte
		want                  [][]byte
		debt, excess, credit2 int64
		resets                int
		sent                  []byte
	}{
		"a window as at the beginning": {
			window: defaultWindow, credit: defaultWindow,
			want:    [][]byte{appendHead(nil, 0, frameSettings, 0, 0), ack, used},
			credit2: defaultWindow, resets: 1,
		},
		"larger windows, settings and a table": {
			window: defaultWindow + 9, credit: defaultWindow + 7, told: one, kept: []byte("block"),
			want: [][]byte{
				appendHead(nil, settingSize, frameSettings, 0, 0), one, appendWindow(nil, 0, 9), ack,
				appendHead(nil, 5, frameHeaders, flagEndHeaders|flagEndStream, 5), []byte("block"), used,
			},
			excess: 7, credit2: defaultWindow + 7, resets: 2,
		},
		"smaller windows": {
			window: 9, credit: 7,
			want: [][]byte{appendHead(nil, 0, frameSettings, 0, 0), ack, used},
			debt: defaultWindow - 9, credit2: defaultWindow, resets: 1, sent: appendWindow(nil, 0, defaultWindow-7),
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := new(script)
			c := New(conn, Options{})
			c.alone.Store(true)
			c.parked, c.idle, c.known, c.in.table = true, true, nil, nil
			c.highest, c.window, c.credit, c.debt, c.excess, c.unsaid, c.unheard = 5, test.window, test.credit, 123, 123, 1, -1
			c.in.told, c.in.kept = test.told, test.kept
			if !c.attach() {
				t.Fatal("no server is to come")
			}
			if want := slices.Concat(append([][]byte{[]byte(preface)}, test.want...)...); !bytes.Equal(c.in.replay, want) {
				t.Fatalf("it is told %x\nwant %x", c.in.replay, want)
			}
			if got, want := [...]int64{c.debt, c.excess, c.credit}, [...]int64{test.debt, test.excess, test.credit2}; got != want {
				t.Fatalf("debt, excess and credit are %v, want %v", got, want)
			}
			if got, want := *c.out.answers, (answers{settings: true, ack: true, resets: test.resets, id: 5}); got != want {
				t.Fatalf("its answers are to be %v, want %v", got, want)
			}
			if c.alone.Load() || c.parked || c.idle || c.known == nil || c.unsaid != 0 || c.unheard != 0 || c.in.table == nil || c.in.kept != nil {
				t.Fatal("the connection is still parked")
			}
			if !bytes.Equal(conn.out.Bytes(), test.sent) {
				t.Fatalf("the client is sent %x, want %x", conn.out.Bytes(), test.sent)
			}
		})
	}
}

// TestNoServerComesToTheEnd has connections that are about to end.
func TestNoServerComesToTheEnd(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(*Conn){
		"the client was told to go": func(c *Conn) { c.leaving = true },
		"it was idle for too long":  func(c *Conn) { c.over = true },
		"it is broken":              func(c *Conn) { c.broken = true },
	} {
		t.Run(name, func(t *testing.T) {
			c := New(new(script), Options{})
			c.alone.Store(true)
			if ends(c); c.attach() || !c.alone.Load() {
				t.Fatal("a server is to come")
			}
		})
	}
}

// TestSettingsThatAreKept has a client set all that it can.
func TestSettingsThatAreKept(t *testing.T) {
	t.Parallel()
	c := New(new(script), Options{})
	for _, value := range []byte{1, 2} {
		var all []byte
		for id := range byte(200) {
			all = append(all, 0, 200-id, 0, 0, 0, value)
		}
		c.in.have = headSize
		c.frameIn(head{length: len(all), kind: frameSettings})
		c.payload(all)
	}
	var want []byte
	for id := byte(maxSettings); id > 0; id-- {
		want = append(want, 0, id, 0, 0, 0, 2)
	}
	if !bytes.Equal(c.in.told, want) {
		t.Fatalf("%x are kept, want %x", c.in.told, want)
	}
}

// TestAServerGoesBeforeItIsPrimed has a server that has told the client to go end its connection.
func TestAServerGoesBeforeItIsPrimed(t *testing.T) {
	t.Parallel()
	c := New(new(script), Options{})
	c.leaving, c.taken = true, []*Stream{{conn: c, id: 1, open: true}}
	c.primed = make(chan struct{})
	c.in.primes = c.primed
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	eventually(t, "the server to read", func() bool {
		if free := c.in.mu.TryLock(); free {
			c.in.mu.Unlock()
			return false
		}
		return true
	})
	if err := c.Close(); err != nil || !c.alone.Load() {
		t.Fatalf("closed: %v, alone: %v", err, c.alone.Load())
	}
	if err := wait(t, read, "end of the server's read"); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestTheConnectionBreaksBeforeAServerIsPrimed has a connection break at that moment: the server, which
// cannot answer any more, goes.
func TestTheConnectionBreaksBeforeAServerIsPrimed(t *testing.T) {
	t.Parallel()
	calls, gone := 0, make(chan struct{})
	var front *Conn
	c, s, _, _ := parked(t, func(s *testServer) {
		s.before = func(c *Conn) { front = c }
		s.wrap = func(conn net.Conn) net.Conn {
			if calls++; calls == 2 {
				_ = front.Abort()
				close(gone)
			}
			return conn
		}
	})
	c.request(3, "/plain")
	wait(t, gone, "server")
	wait(t, s.over, "hangup") // and its goroutines end with the test
	if f, err := c.framer.ReadFrame(); err == nil {
		t.Fatalf("read %v, want the end of the connection", f)
	}
}

// TestAnswersOfANewServer tells those from what the client is to be sent.
func TestAnswersOfANewServer(t *testing.T) {
	t.Parallel()
	due := answers{settings: true, ack: true, resets: 1, id: 5}
	settings, ack := head{kind: frameSettings, length: 6}, head{kind: frameSettings, flags: flagAck}
	for _, h := range []head{
		{kind: frameReset, id: 3}, {kind: frameWindowUpdate}, {kind: framePing, flags: flagAck}, {kind: frameGoAway}, {kind: frameData, id: 5},
	} {
		if a := due; a.has(h) || a != due {
			t.Errorf("%v is taken for an answer", h)
		}
	}
	a := due
	for _, h := range []head{settings, ack, {kind: frameReset, id: 5}} {
		if !a.due() || !a.has(h) || a.has(h) {
			t.Errorf("%v is not taken for an answer, or twice", h)
		}
	}
	if a.due() {
		t.Errorf("%v are due", a)
	}
}

// TestWhatTheServerAllows has a server allow the client more than it knows of, or not.
func TestWhatTheServerAllows(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		excess, more, credit, left int64
		sent                       []byte
	}{
		"the client knows of nothing": {0, 10, 110, 0, appendWindow(nil, 0, 10)},
		"it knows of that":            {10, 10, 100, 0, nil},
		"it knows of more than that":  {15, 10, 100, 5, nil},
		"it knows of a part of that":  {4, 10, 106, 0, appendWindow(nil, 0, 6)},
	} {
		t.Run(name, func(t *testing.T) {
			conn := new(script)
			c := New(conn, Options{})
			c.credit, c.excess = 100, test.excess
			if _, err := c.Write(appendWindow(nil, 0, test.more)); err != nil {
				t.Fatal(err)
			}
			if c.credit != test.credit || c.excess != test.left {
				t.Fatalf("credit %d, excess %d", c.credit, c.excess)
			}
			if !bytes.Equal(conn.out.Bytes(), test.sent) {
				t.Fatalf("sent %x, want %x", conn.out.Bytes(), test.sent)
			}
		})
	}
}
