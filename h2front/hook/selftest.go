package hook

import (
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

// SelfTest takes a stream from a server, over a connection in memory, and reports why that
// does not work with the versions of net/http and x/net that this program was built with.
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
	front := h2front.New(server, 0)
	written := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() {
		new(http2.Server).ServeConn(front.ForServer(), &http2.ServeConnOpts{
			Context:    context.Background(),
			BaseConfig: &http.Server{ErrorLog: log.New(io.Discard, "", 0)}, //nolint:gosec // it does not listen
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				written <- selfTestServer(front, w, &running)
			}),
		})
		front.Linger()
	})
	err := selfTestClient(client)
	_ = client.Close()
	_ = front.Abort()
	running.Wait()
	select {
	case failed := <-written:
		if failed != nil {
			return failed // the client's error follows from it
		}
	default:
	}
	return err
}

// selfTestWatcher has the rest of the answer written.
type selfTestWatcher func()

// OnWritable implements h2front.Watcher.
func (w selfTestWatcher) OnWritable() { w() }

// OnHangup implements h2front.Watcher.
func (selfTestWatcher) OnHangup() {}

// selfTestServer is the handler: it answers "one", and another goroutine "two".
func selfTestServer(front *h2front.Conn, w http.ResponseWriter, running *sync.WaitGroup) error {
	s := front.Take(selfTestTime)
	if s == nil {
		return errors.New("no stream could be taken")
	}
	if _, err := io.WriteString(w, "one"); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return err
	}
	s.Watch(selfTestWatcher(func() {
		running.Go(func() { _, _ = s.Write(nil, []byte("two"), true) })
	}))
	if _, err := w.Write(s.Marker()); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// selfTestClient makes a request, and reads the answer.
func selfTestClient(conn net.Conn) error {
	var opening, block bytes.Buffer
	opening.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&opening, conn)
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", http.MethodGet}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = framer.WriteSettings()
	_ = framer.WriteWindowUpdate(0, 1<<20)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	sent := make(chan struct{})
	go func() { // the server writes before it reads all
		defer close(sent)
		_, _ = conn.Write(opening.Bytes())
	}()
	defer func() { <-sent }()
	body, header := "", false
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			_ = conn.Close()
			return fmt.Errorf("reading the answer: %w", err)
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			header = true
		case *http2.DataFrame:
			body += string(f.Data())
			if !f.StreamEnded() {
				continue
			}
			if want := "onetwo"; body != want || !header {
				_ = conn.Close()
				return fmt.Errorf("the answer is %q, and should be %q", body, want)
			}
			return nil
		case *http2.GoAwayFrame:
			_ = conn.Close()
			return fmt.Errorf("the server ended the connection: %s", f.ErrCode)
		}
	}
}
