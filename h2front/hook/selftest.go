package hook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/evstream/caddy-evstream/h2front"
)

// selfTestTime bounds SelfTest.
const selfTestTime = 5 * time.Second

// SelfTest takes a stream from a server, over a connection in memory, has the server go and
// come again, and reports why that does not work with the versions of net/http and x/net that
// this program was built with.
func SelfTest() error {
	prepared := new(http.Server)
	if err := http2.ConfigureServer(prepared, nil); err != nil {
		return err
	}
	if prepared.TLSNextProto[http2.NextProtoTLS] == nil {
		return errors.New("this version of golang.org/x/net has net/http serve HTTP/2")
	}
	client, server := net.Pipe()
	_ = client.SetDeadline(time.Now().Add(selfTestTime))
	_ = server.SetDeadline(time.Now().Add(selfTestTime))
	front := h2front.New(server, h2front.Options{ParkAfter: time.Millisecond})
	test := &selfTest{front: front, written: make(chan error, 1), gone: make(chan struct{})}
	test.running.Go(func() {
		var first sync.Once
		front.Serve(func(conn net.Conn) {
			new(http2.Server).ServeConn(conn, &http2.ServeConnOpts{
				Context: context.Background(),
				BaseConfig: &http.Server{ //nolint:gosec // it does not listen
					ErrorLog:  log.New(io.Discard, "", 0),
					ConnState: func(_ net.Conn, state http.ConnState) { front.SetIdle(state == http.StateIdle) },
				},
				Handler: test,
			})
			first.Do(func() { close(test.gone) })
		})
	})
	err := test.client(client)
	_ = client.Close()
	_ = front.Abort()
	test.running.Wait()
	select {
	case failed := <-test.written:
		if failed != nil {
			return failed // the client's error follows from it
		}
	default:
	}
	return err
}

// selfTest is the handler of SelfTest's server.
type selfTest struct {
	front   *h2front.Conn
	stream  *h2front.Stream // that was taken; its opening is read after it was set
	written chan error      // what came of taking it
	gone    chan struct{}   // is closed when the first server has gone
	running sync.WaitGroup
}

// OnWritable implements h2front.Watcher.
func (*selfTest) OnWritable() {}

// OnHangup implements h2front.Watcher.
func (*selfTest) OnHangup() {}

// ServeHTTP takes the stream of a request for /stream.
func (t *selfTest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/stream" {
		_, _ = io.WriteString(w, r.Header.Get("X-Again"))
		return
	}
	t.written <- t.take(w)
}

func (t *selfTest) take(w http.ResponseWriter) error {
	if t.stream = t.front.Take(selfTestTime); t.stream == nil {
		return errors.New("no stream could be taken")
	}
	t.stream.Watch(t)
	for _, part := range [][]byte{[]byte("one"), t.stream.Marker()} {
		if _, err := w.Write(part); err != nil {
			return err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
	}
	return nil
}

// selfTestClient makes requests, and reads the answers.
type selfTestClient struct {
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
}

// client makes a request for a stream, and when the server has gone another one, with a
// header that only who knows of the first one understands.
func (t *selfTest) client(conn net.Conn) error {
	buffered := bufio.NewWriter(conn)
	c := &selfTestClient{framer: http2.NewFramer(buffered, conn)}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	_, _ = buffered.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings()
	_ = c.framer.WriteWindowUpdate(0, 1<<20)
	_ = c.framer.WriteSettingsAck() // before the server's come: it does not know
	c.request(1, "/stream")
	sent := make(chan struct{})
	t.running.Go(func() { // the server writes before it reads all
		defer close(sent)
		_ = buffered.Flush()
	})
	err := c.reads(1, "one", false)
	<-sent
	if err != nil {
		_ = conn.Close()
		return err
	}
	select {
	case <-t.gone:
	case <-time.After(selfTestTime):
		return errors.New("the server did not go when its last stream was taken")
	}
	c.request(3, "/")
	t.running.Go(func() { _ = buffered.Flush() })
	if err := c.reads(3, "again", true); err != nil {
		return err
	}
	t.running.Go(func() { _, _ = t.stream.Write(nil, []byte("two"), true) })
	return c.reads(1, "two", true)
}

// request writes a request.
func (c *selfTestClient) request(id uint32, path string) {
	c.block.Reset()
	for _, f := range [][2]string{{":method", http.MethodGet}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}, {"x-again", "again"}} {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true})
}

// reads reads the body of an answer, or what follows of it.
func (c *selfTestClient) reads(id uint32, want string, end bool) error {
	for body := ""; ; {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			body += string(f.Data())
			if f.StreamID == id && body == want && f.StreamEnded() == end {
				return nil
			}
			if f.StreamID != id || len(body) > len(want) || f.StreamEnded() {
				return fmt.Errorf("the answer is %q, and should be %q", body, want)
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("the server ended the connection: %s", f.ErrCode)
		case *http2.RSTStreamFrame:
			return fmt.Errorf("the server ended the stream: %s", f.ErrCode)
		}
	}
}
