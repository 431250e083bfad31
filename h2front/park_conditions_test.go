package h2front

import (
	"bytes"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestAConnectionWithPushesIsNotParked has a handler push a stream: another server would push
// one with the same id.
func TestAConnectionWithPushesIsNotParked(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pushes" {
			if err := w.(http.Pusher).Push("/plain", nil); err != nil {
				t.Error(err)
			}
			return
		}
		takes(streams, "opening")(w, r)
	}, parksAtOnce)
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	for id := uint32(3); id < 40; id += 2 {
		c.request(id, "/pushes")
		for ended := 0; ended < 2; {
			switch f := c.next().(type) {
			case *http2.PushPromiseFrame:
				if f.PromiseID != id-1 {
					t.Fatalf("stream %d is promised, want %d", f.PromiseID, id-1)
				}
				// Its block is to be decoded, too.
				if _, err := c.framer.ReadMetaHeaders.DecodeFull(f.HeaderBlockFragment()); err != nil {
					t.Fatal(err)
				}
			case *http2.MetaHeadersFrame:
				if f.StreamEnded() {
					ended++
				}
			case *http2.DataFrame:
				if f.StreamEnded() {
					ended++
				}
			}
		}
		eventually(t, "the connection to be tried to be parked", func() bool {
			front.mu.Lock()
			defer front.mu.Unlock()
			return front.tries > 0 || front.alone.Load()
		})
	}
}

// TestTheLastWordOfAServerIsAnError has a server that goes tell the client of an error.
func TestTheLastWordOfAServerIsAnError(t *testing.T) {
	t.Parallel()
	c, s, front, _ := parked(t)
	if _, err := front.Write(appendGoAway(nil, 1, codeInternal)); err != nil {
		t.Fatal(err)
	}
	if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeInternal {
		t.Fatalf("read %v, want GOAWAY", f)
	}
	wait(t, s.over, "hangup")
	c.ends()
}

// locked is a connection that tells of deadlines set while a lock of its Conn is free.
type locked struct {
	script
	c    *Conn
	free bool
}

func (l *locked) SetReadDeadline(time.Time) error {
	if l.c.mu.TryLock() {
		l.c.mu.Unlock()
		l.free = true
	}
	return nil
}

// TestADeadlineIsSetWithItsReason has a server be interrupted: a deadline that came later than its
// reason would end the connection, or have wait spin.
func TestADeadlineIsSetWithItsReason(t *testing.T) {
	t.Parallel()
	conn := new(locked)
	c := New(conn, Options{ParkAfter: time.Hour})
	conn.c = c
	c.parkEnd = time.NewTimer(time.Hour)
	if c.park(); !c.parking || conn.free {
		t.Fatalf("parking: %v, lock free: %v", c.parking, conn.free)
	}
}

// TestAServerThatCannotGoIsAskedLessAndLess has a client not acknowledge what the server has set.
func TestAServerThatCannotGoIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	c := New(new(script), Options{ParkAfter: time.Hour})
	c.taken = []*Stream{{conn: c, id: 1, open: true}}
	c.unheard = 1
	c.SetIdle(true)
	after := func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.parkAfter()
	}
	for range 20 {
		c.park()
		if !c.interrupted() || c.alone.Load() || c.parkEnd == nil {
			t.Fatal("it is parked, or not to be any more")
		}
	}
	if got, want := after(), 1024*time.Hour; got != want {
		t.Fatalf("it is asked after %v, want %v", got, want)
	}
	if c.SetIdle(true); after() != time.Hour {
		t.Fatalf("it is asked after %v", after())
	}
	c.fail()
}

// TestWhatKeepsAServer has a connection that could be parked, but for one thing.
func TestWhatKeepsAServer(t *testing.T) {
	t.Parallel()
	for name, but := range map[string]func(*Conn){
		"":                               func(*Conn) {},
		"the preface is not read":        func(c *Conn) { c.in.preface = 1 },
		"a frame has begun":              func(c *Conn) { c.in.have = 1 },
		"a frame has not ended":          func(c *Conn) { c.in.left = 1 },
		"a block has not ended":          func(c *Conn) { c.in.block = true },
		"the server has still to read":   func(c *Conn) { c.in.ready = []byte{1} },
		"it is not told all yet":         func(c *Conn) { c.in.replay = []byte{1} },
		"it was told something just now": func(c *Conn) { c.in.passed = time.Now() },
		"there is no table":              func(c *Conn) { c.in.table = nil },
		"a frame is held":                func(c *Conn) { c.out.have = 1 },
		"it writes a frame":              func(c *Conn) { c.out.left = 1 },
		"it writes a block":              func(c *Conn) { c.out.block = true },
		"it has not answered all":        func(c *Conn) { c.out.answers = new(answers) },
		"it has pushed a stream":         func(c *Conn) { c.out.pushed = true },
		"it has streams":                 func(c *Conn) { c.idle = false },
		"it has told the client to go":   func(c *Conn) { c.leaving = true },
		"it ends the connection":         func(c *Conn) { c.doomed = true },
		"the connection is broken":       func(c *Conn) { c.broken = true },
		"it is to shut down":             func(c *Conn) { c.shutting = true },
		"a handler runs":                 func(c *Conn) { c.handlers = 1 },
		"the client waits for an answer": func(c *Conn) { c.unsaid = 1 },
		"it waits for an answer":         func(c *Conn) { c.unheard = 1 },
		"it had one too many":            func(c *Conn) { c.unheard = -1 },
		"its streams are not known":      func(c *Conn) { c.known = nil },
		"a stream was read of":           func(c *Conn) { c.known[3] = new(peer) },
		"a marker is to come":            func(c *Conn) { c.awaited = make([]*Stream, 1) },
		"no stream is taken":             func(c *Conn) { c.taken = nil },
		"a stream is not taken yet":      func(c *Conn) { c.taken[0].open = false },
	} {
		t.Run(name, func(t *testing.T) {
			c := New(new(script), Options{ParkAfter: time.Minute})
			c.in.preface, c.idle, c.taken = 0, true, []*Stream{{conn: c, id: 1, open: true}}
			but(c)
			if got, want := c.mayPark(), name == ""; got != want {
				t.Fatalf("it may be parked: %v, want %v", got, want)
			}
		})
	}
}

// TestTheEndOfAHandlerHasAServerGo has a handler go on after its stream.
func TestTheEndOfAHandlerHasAServerGo(t *testing.T) {
	t.Parallel()
	c := New(new(script), Options{ParkAfter: time.Hour})
	defer c.fail()
	c.in.preface, c.taken = 0, []*Stream{{conn: c, id: 1, open: true}}
	c.Handle(func() {
		c.SetIdle(true)
		if c.park(); !c.interrupted() || c.alone.Load() {
			t.Error("the server was to go")
		}
		c.tries = 5
	})
	if c.tries != 0 || c.handlers != 0 {
		t.Fatalf("%d tries, %d handlers", c.tries, c.handlers)
	}
	c.park()
	c.SetIdle(true) // before the read is interrupted
	if !c.interrupted() || !c.alone.Load() || c.parkEnd != nil || time.Since(c.parkedAt) > patience {
		t.Fatal("the server was not to go, or is to go again")
	}
	if c.known != nil || c.Take(time.Hour) != nil {
		t.Fatal("a stream may be taken from no server")
	}
	if c.SetIdle(true); c.parkEnd != nil { // wait would be interrupted, and spin
		t.Fatal("a server is to go that is not there")
	}
}

// TestWhatKeepsAnIdleConnection has a connection be idle for too long at the moment at which the
// server is told of a request.
func TestWhatKeepsAnIdleConnection(t *testing.T) {
	t.Parallel()
	reads := func(c *Conn, n int, flags byte) { // so much of the headers of a request
		c.in.have = headSize
		c.frameIn(head{length: 3, kind: frameHeaders, flags: flags, id: 5})
		c.payload(make([]byte, n))
	}
	for name, test := range map[string]struct {
		but  func(*Conn)
		ends bool
	}{
		"nothing":                 {func(*Conn) {}, true},
		"a request":               {func(c *Conn) { reads(c, 3, flagEndHeaders) }, false},
		"a part of a request":     {func(c *Conn) { reads(c, 2, flagEndHeaders) }, true},
		"a part of its headers":   {func(c *Conn) { reads(c, 3, 0) }, true},
		"a stream that is taken":  {func(c *Conn) { c.taken = []*Stream{{conn: c}} }, false},
		"a stream that may be so": {func(c *Conn) { c.awaited = []*Stream{{conn: c}} }, false},
		"the server":              {func(c *Conn) { c.idle = false }, false},
		"streams beyond count":    {func(c *Conn) { c.known = nil; reads(c, 3, flagEndHeaders) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn := new(script)
			c := New(conn, Options{IdleTimeout: time.Hour})
			defer c.fail()
			c.in.preface = 0
			c.SetIdle(true)
			test.but(c)
			if c.endIdle(); !c.interrupted() || c.over != test.ends || c.ending {
				t.Fatalf("over: %v, ending: %v", c.over, c.ending)
			}
			if !test.ends {
				if c.over, c.idle, c.known, c.taken, c.awaited = false, true, nil, nil, nil; c.idleEnd == nil {
					c.SetIdle(true)
				}
				if c.endIdle(); !c.interrupted() || !c.over {
					t.Fatal("it does not end later")
				}
			}
			c.out.mu.Lock() // it is written
			defer c.out.mu.Unlock()
			if want := appendGoAway(nil, c.highest, codeNo); !bytes.Equal(conn.out.Bytes(), want) || c.late != nil {
				t.Fatalf("sent %x, want %x", conn.out.Bytes(), want)
			}
			if len(c.in.ready) > 0 && c.highest != 5 {
				t.Fatalf("the last stream is %d", c.highest)
			}
		})
	}
}

// TestAServerThatComesAgainSoonIsKeptLonger has it be kept twice as long each time, until one was
// gone for long enough.
func TestAServerThatComesAgainSoonIsKeptLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const after, rest = time.Second, time.Minute
		c := New(new(script), Options{ParkAfter: after, Rest: rest})
		defer c.fail()
		for i, round := range []struct{ gone, kept time.Duration }{
			{rest - 1, 2 * after}, {0, 4 * after}, {rest - 1, 8 * after}, {rest, after}, {0, 2 * after},
		} {
			c.parkedAt = time.Now()
			c.alone.Store(true)
			time.Sleep(round.gone)
			if !c.attach() || c.parkAfter() != round.kept {
				t.Errorf("%d: a server that comes after %s is kept for %s, want %s", i, round.gone, c.parkAfter(), round.kept)
			}
		}
		c.returns = 1 << 40
		if kept := c.parkAfter(); kept != after<<maxDoubled {
			t.Errorf("it is kept for %s at most", kept)
		}
	})
}
