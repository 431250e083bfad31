package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// oneConn is a listener of one connection.
type oneConn struct{ conns chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func (l *oneConn) Close() error {
	close(l.conns)
	return nil
}

// A refusal, and a redirect, is sent at once: before the body has come, and not only when what is read of
// it has ended. What comes of it afterwards is still read, so that the connection is not
// reset under the answer.
func TestARefusalIsSentAtOnceAndTheBodyIsReadAfterIt(t *testing.T) {
	const size = 5000
	for _, request := range []string{"POST /live/a?evnt=x", "POST /live/a//b", "BREW /live/a", "POST /live/_tickets", "PUT /live/a?session=", "POST /live", "POST /live?channel=a"} {
		for _, body := range []string{fmt.Sprintf("Content-Length: %d", size), "Transfer-Encoding: chunked"} {
			t.Run(request+", "+body, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := &http.Server{Handler: hubHandler(t, hubSetup{})}
					client, conn := net.Pipe()
					listener := &oneConn{conns: make(chan net.Conn, 1)}
					listener.conns <- conn
					served := make(chan error, 1)
					go func() { served <- server.Serve(listener) }()
					defer func() {
						_ = client.Close()
						_ = server.Close()
						<-served
					}()
					begun := time.Now()
					_ = client.SetDeadline(begun.Add(time.Minute))
					fmt.Fprintf(client, "%s HTTP/1.1\r\nHost: hub.example\r\n%s\r\n\r\n", request, body)
					resp, err := http.ReadResponse(bufio.NewReader(client), nil)
					if err != nil {
						t.Fatalf("after %v: %v", time.Since(begun), err)
					}
					if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, resp.ContentLength)); err != nil {
						t.Fatal(err)
					}
					if after := time.Since(begun); after != 0 || resp.StatusCode < 300 || !resp.Close {
						t.Errorf("%d after %v, closed: %v", resp.StatusCode, after, resp.Close)
					}
					rest := strings.Repeat("x", size)
					if !strings.HasPrefix(body, "Content-Length") {
						rest = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, rest)
					}
					if n, err := io.WriteString(client, rest); err != nil {
						t.Errorf("of the body, %d bytes were read: %v", n, err)
					}
				})
			})
		}
	}
}
