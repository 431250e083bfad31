package parked

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// BenchmarkWrite writes an event as a stream does, in pieces: copied into one record, which
// is what Write does, and as a record for each piece, beside it. The client is read by the
// same process.
func BenchmarkWrite(b *testing.B) {
	site := httptest.NewUnstartedServer(nil) // for its certificate
	site.StartTLS()
	site.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	far, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer far.Close()
	near, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	conn := tls.Server(near, &tls.Config{Certificates: site.TLS.Certificates})
	shaken := make(chan error, 1)
	go func() { shaken <- conn.Handshake() }()
	if err := tls.Client(far, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-shaken; err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, far)
	}()
	g := NewGroup()
	c := g.Conn(conn)
	if c == nil {
		b.Fatal("the connection cannot be parked")
	}
	defer func() {
		c.Close(true)
		<-done
		g.Close()
	}()
	for _, size := range []struct {
		name  string
		bytes int
	}{{"100B", 100}, {"1KiB", 1 << 10}, {"8KiB", 8 << 10}} {
		pieces := [][]byte{[]byte("1000\r\n"), make([]byte, size.bytes), []byte("\r\n")}
		b.Run("copied/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for n := 0; n == 0; {
					var err error
					if n, err = c.Write(pieces...); err != nil && !errors.Is(err, ErrFull) {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run("apart/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for tcpsock.Room(c.fd) == 0 {
				}
				for _, p := range pieces {
					if _, err := conn.Write(p); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
	b.Run("room", func(b *testing.B) {
		for b.Loop() {
			tcpsock.Room(c.fd)
		}
	})
}
