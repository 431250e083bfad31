package h2front

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// FuzzParked compares what becomes of a client that sends anything over a connection that is
// parked, and over one of a server without a Conn whose handler keeps the stream: whether the
// connection is ended, and why, or else whether the stream is.
func FuzzParked(f *testing.F) {
	frames := clientBytes()
	for n := 0; n < len(frames); n += headSize + parseHead(frames[n:]).length {
		f.Add(frames[n:])
	}
	f.Add(appendWindow(nil, 1, maxWindow))
	f.Add(appendHead(nil, 0, frameSettings, flagAck, 0))
	f.Add(append(appendHead(nil, prioritySize, framePriority, 0, 1), 0, 0, 0, 1, 0))
	f.Add(append(appendHead(nil, prioritySize, framePriority, 0, 1), 0, 0, 0, 3, 0))
	f.Add(append(appendHead(nil, 5, framePriorityUpdate, 0, 0), 0, 0, 0, 0, 'u'))
	f.Add(bytes.Repeat(append(appendHead(nil, pingSize, framePing, 0, 0), make([]byte, pingSize)...), maxPings+5))
	var h2 http2.Server
	serve := func(conn net.Conn, front *Conn, hold http.HandlerFunc) {
		handler := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				hold(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "answer")
		}
		config := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}
		if front != nil {
			config.ConnState = func(_ net.Conn, state http.ConnState) { front.SetIdle(state == http.StateIdle) }
		}
		h2.ServeConn(conn, &http2.ServeConnOpts{
			Context: context.WithValue(context.Background(), frontKey{}, front),
			Handler: http.HandlerFunc(handler), BaseConfig: config,
		})
	}
	without := listen(f, func(conn net.Conn) {
		serve(conn, nil, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "opening")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
	})
	var fronts sync.Map // from the addresses of clients
	with := listen(f, func(conn net.Conn) {
		front := New(conn, Options{ParkAfter: 5 * time.Millisecond})
		fronts.Store(conn.RemoteAddr().String(), front)
		front.Serve(func(conn net.Conn) {
			serve(conn, front, func(w http.ResponseWriter, r *http.Request) { take(w, r, "opening") })
		})
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		sent = whole(sent[:min(len(sent), 8<<10)])
		for b := sent; len(b) > 0; b = b[headSize+parseHead(b).length:] {
			if h := parseHead(b); h.id == 1 && (h.kind == frameHeaders || h.kind == frameContinuation) {
				return // of a stream that a server has ended it is more than an error of the stream
			}
		}
		var results [2]string
		var both sync.WaitGroup
		both.Go(func() { results[0] = held(t, without, sent, func(net.Addr) {}) })
		both.Go(func() {
			results[1] = held(t, with, sent, func(client net.Addr) {
				front, _ := fronts.LoadAndDelete(client.String())
				goes(t, front.(*Conn))
			})
		})
		both.Wait()
		// Bytes that the server has not read may cost the client the last that it was sent.
		served := strings.HasPrefix(results[0], "served") || strings.HasPrefix(results[1], "served")
		lost := slices.Contains(results[:], "end") && !served
		if results[0] != results[1] && !lost {
			t.Fatalf("without: %s\nwith: %s", results[0], results[1])
		}
	})
}

// held opens a stream that is kept, waits until the connection is ready, sends bytes and a PING, and
// tells whether that is answered, and the stream was reset, or how the connection ends.
func held(t *testing.T, address string, sent []byte, ready func(client net.Addr)) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &raw{t: t, conn: conn, framer: http2.NewFramer(conn, conn)}
	var b bytes.Buffer
	framer := http2.NewFramer(&b, conn)
	b.WriteString(http2.ClientPreface)
	_ = framer.WriteSettings()
	_ = framer.WriteWindowUpdate(0, allowance)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: []byte("\x82\x87\x04\x05/hold\x41\x01x"), EndStream: true, EndHeaders: true,
	})
	_, _ = conn.Write(b.Bytes())
	for opened := false; !opened; {
		d, ok := c.next().(*http2.DataFrame)
		opened = ok && string(d.Data()) == "opening"
	}
	c.pings(1)
	ready(conn.LocalAddr())
	last := [8]byte{0xee, 0xdd, 0xcc}
	b.Reset()
	b.Write(sent)
	_ = framer.WritePing(false, last)
	_, _ = conn.Write(b.Bytes())
	reset := "none"
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return "end"
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if f.Data == last {
				return fmt.Sprintf("served, the stream's error: %s", reset)
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == 1 {
				reset = f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return f.ErrCode.String()
			}
		}
	}
}
