package hook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/evstream/caddy-evstream/h2front"
)

// selfTestTime bounds SelfTest.
const selfTestTime = 5 * time.Second

// SelfTest takes a stream from an http.Server that Install was called for, over a connection in
// memory, has the HTTP/2 server go and come again, and reports why that does not work with the
// versions of net/http and x/net that this program was built with.
func SelfTest() error { return runSelfTest(install) }

type selfTestKey struct{}

// installer is install.
type installer func(server *http.Server, connContext func(context.Context, net.Conn) context.Context, parking h2front.Options, gone func()) bool

func runSelfTest(install installer) error {
	certificate, err := selfTestCertificate()
	if err != nil {
		return err
	}
	client, conn := net.Pipe()
	_ = client.SetDeadline(time.Now().Add(selfTestTime))
	listener := &oneConn{conn: tls.Server(conn, &tls.Config{
		Certificates: []tls.Certificate{certificate}, NextProtos: []string{http2.NextProtoTLS}, SessionTicketsDisabled: true,
	}), closed: make(chan struct{})}
	test := &selfTest{taken: make(chan error, 1), gone: make(chan struct{})}
	ended := make(chan struct{})
	var installed, over, gone sync.Once
	server := &http.Server{ //nolint:gosec // it has one connection, which is closed in time
		ErrorLog: log.New(io.Discard, "", 0),
		Handler:  test,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				over.Do(func() { close(ended) })
			}
		},
	}
	server.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		installed.Do(func() {
			install(server, func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(ctx, selfTestKey{}, conn)
			}, h2front.Options{ParkAfter: time.Millisecond}, func() { gone.Do(func() { close(test.gone) }) })
		})
		return ctx
	}
	if err := http2.ConfigureServer(server, nil); err != nil {
		return err
	}
	test.running.Go(func() { _ = server.Serve(listener) })
	err = test.client(tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http2.NextProtoTLS}})) //nolint:gosec // as above
	_ = client.Close()
	<-ended
	_ = server.Close()
	test.running.Wait()
	select {
	case failed := <-test.taken:
		if failed != nil {
			return failed // the client's error follows from it
		}
	default:
	}
	return err
}

// oneConn is a net.Listener that has a single connection.
type oneConn struct {
	conn   net.Conn // nil once it was accepted
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (*oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// selfTestCertificate makes a certificate that nobody verifies.
func selfTestCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// selfTest is the handler of SelfTest's server.
type selfTest struct {
	stream  *h2front.Stream // that was taken; its opening is read after it was set
	taken   chan error      // what came of taking it
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
		_, _ = io.WriteString(w, r.Header.Get("X-Again")) //nolint:gosec // the client is its own
		return
	}
	front, _ := r.Context().Value(selfTestKey{}).(*h2front.Conn)
	t.taken <- t.take(w, front)
}

func (t *selfTest) take(w http.ResponseWriter, front *h2front.Conn) error {
	if front == nil {
		return errors.New("this version of net/http serves HTTP/2 itself")
	}
	if t.stream = front.Take(selfTestTime); t.stream == nil {
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
