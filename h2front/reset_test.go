package h2front

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// holds is a handler that takes a stream and does not return until then is closed, or the
// server has given the request up.
func holds(to chan<- *taken, then <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		to <- take(w, r, "opening")
		select {
		case <-then:
		case <-r.Context().Done():
		}
	}
}

// TestAStreamEndsBeforeItsHandler has a stream end whose handler has written the marker and
// not returned yet.
func TestAStreamEndsBeforeItsHandler(t *testing.T) {
	for name, end := range map[string]struct {
		by   func(*raw)
		then http2.ErrCode // of the reset that the client is sent
	}{
		"by the client":     {by: func(c *raw) { c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel)) }},
		"by the hangup":     {by: func(c *raw) { _ = c.conn.Close() }},
		"by the server":     {by: func(c *raw) { c.must(c.framer.WriteData(1, false, []byte("too much"))) }, then: http2.ErrCodeStreamClosed},
		"by a large window": {by: func(c *raw) { c.must(c.framer.WriteWindowUpdate(1, 1<<31-1)) }, then: http2.ErrCodeFlowControl},
	} {
		t.Run(name, func(t *testing.T) {
			streams := make(chan *taken, 1)
			server := startServer(t, holds(streams, nil))
			c := server.dial(t, allowance)
			c.request(1, "/")
			c.opens(1, "opening")
			s := wait(t, streams, "stream")
			end.by(c)
			wait(t, s.over, "hangup")
			if end.then != 0 {
				if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 || f.ErrCode != end.then {
					t.Fatalf("read %v, want a reset", f)
				}
			}
			if front := wait(t, server.fronts, "connection"); front.hasStreams() {
				t.Fatal("the stream was not given up")
			}
		})
	}
}

// TestAHandlerEndsItsStream has the handler itself end the answer, after the marker: the
// client is sent what it would be sent without a Conn, and the stream is over.
func TestAHandlerEndsItsStream(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		seen    func(*raw)
	}{
		"by a panic": {
			handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			seen: func(c *raw) {
				if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 {
					t.Fatalf("read %v, want a reset", f)
				}
			},
		},
		"by more bytes": {
			handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("more")) },
			seen:    func(c *raw) { c.data(1, "more", true) },
		},
		"by trailers": {
			handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(http.TrailerPrefix+"X", "y") },
			seen: func(c *raw) {
				if f, ok := c.next().(*http2.MetaHeadersFrame); !ok || !f.StreamEnded() {
					t.Fatalf("read %v, want trailers", f)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			streams := make(chan *taken, 1)
			server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
				streams <- take(w, r, "opening")
				test.handler(w, r)
			})
			c := server.dial(t, allowance)
			c.request(1, "/")
			c.opens(1, "opening")
			wait(t, wait(t, streams, "stream").over, "hangup")
			test.seen(c)
		})
	}
}

// TestAResetBeforeTheMarkerIsSeen has the client give a stream up before the marker is
// written: its handler is told by the flush.
func TestAResetBeforeTheMarkerIsSeen(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		stream := r.Context().Value(frontKey{}).(*Conn).Take(patience)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		_, _ = w.Write(stream.Marker())
		s := &taken{Stream: stream, over: make(chan struct{})}
		if http.NewResponseController(w).Flush() != nil {
			close(s.over)
		}
		streams <- s
	})
	c := server.dial(t, allowance)
	c.request(1, "/")
	if _, ok := c.next().(*http2.MetaHeadersFrame); !ok {
		t.Fatal("no header")
	}
	c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	wait(t, wait(t, streams, "stream").over, "error of the flush")
}

// TestResetsAtAnyMoment has a client reset each stream as soon as it has asked for it, while
// the server takes it: none is left behind.
func TestResetsAtAnyMoment(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) { streams <- take(w, r, "opening") })
	c := server.dial(t, allowance)
	front := wait(t, server.fronts, "connection")
	go func() { // the client reads all
		for {
			if _, err := c.framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	for i := range uint32(300) {
		id := 2*i + 1
		c.request(id, "/")
		if i%3 == 0 {
			_ = c.framer.WritePing(false, [8]byte{}) // a moment
		}
		if i%2 == 0 {
			c.must(c.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		s := wait(t, streams, "answer")
		if i%2 == 1 {
			c.must(c.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		if s != nil {
			wait(t, s.over, "hangup")
		}
	}
	if front.hasStreams() {
		t.Fatal("a stream was left behind")
	}
}

// TestTheServerLeavesBeforeItHasEndedAStream has a server close a connection in good order that
// has a stream of which it has written the marker, and not the end: nobody would end it.
func TestTheServerLeavesBeforeItHasEndedAStream(t *testing.T) {
	sent := []byte(http2.ClientPreface)
	sent = binary.BigEndian.AppendUint32(appendHead(sent, 4, frameWindowUpdate, 0, 0), allowance)
	sent = appendHead(sent, 0, frameHeaders, flagEndHeaders|flagEndStream, 1)
	conn := &script{in: sent}
	c := New(conn, Options{})
	p := make([]byte, 64)
	for left := len(sent); left > 0; {
		n, err := c.Read(p[:min(len(p), left)])
		if err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	stream := c.Take(patience)
	if stream == nil {
		t.Fatal("no stream was taken")
	}
	s := &taken{Stream: stream, over: make(chan struct{})}
	s.Watch(s)
	left := appendGoAway(append(appendHead(nil, markerSize, frameData, 0, 1), s.Marker()...), 1, codeNo)
	if _, err := c.Write(left); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, s.over, "hangup")
	if want := appendReset(appendGoAway(nil, 1, codeNo), 1, codeInternal); !bytes.Equal(conn.out.Bytes(), want) {
		t.Fatalf("the client was sent %x\nwant %x", conn.out.Bytes(), want)
	}
}
