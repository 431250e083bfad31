//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// perConnection is how many streams an HTTP/2 connection carries.
const perConnection = 100

// streams are subscribers over TLS. Each has a goroutine that reads with the client
// of Go.
type streams struct {
	ctx    context.Context
	cancel context.CancelFunc
	tally  *tally
	tls    *tls.Config
	server string
	had    [maxPublishers]uint32 // events before these streams

	closing atomic.Bool
	reading sync.WaitGroup

	mu    sync.Mutex
	conns []io.Closer
}

// overTLS opens n streams, one on each connection.
func (g *generator) overTLS(address string, trust *x509.CertPool, n int) error {
	s := g.streams(address, trust)
	return s.open(g, n, n, s.connect)
}

// overHTTP2 opens n streams, perConnection on each connection.
func (g *generator) overHTTP2(address string, trust *x509.CertPool, n int) error {
	s := g.streams(address, trust)
	return s.open(g, n, (n+perConnection-1)/perConnection, func(i int) error {
		return s.multiplex(i*perConnection, min(perConnection, n-i*perConnection))
	})
}

func (g *generator) streams(address string, trust *x509.CertPool) *streams {
	s := &streams{
		tally: g.tally, server: address, had: g.numbers,
		tls: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS13},
	}
	s.ctx, s.cancel = context.WithCancel(g.ctx)
	g.closers = append(g.closers, s)
	return s
}

// open makes connections, a few at a time, and waits for n subscribers.
func (s *streams) open(g *generator, n, connections int, connect func(int) error) error {
	var next atomic.Int64
	for range min(connections, 16) {
		s.reading.Go(func() {
			for i := next.Add(1) - 1; i < int64(connections) && !s.closing.Load(); i = next.Add(1) - 1 {
				if err := connect(int(i)); err != nil {
					s.fail(err)
					return
				}
			}
		})
	}
	g.readers += n
	return g.until("subscribers are ready", func() bool {
		ready, _, _ := s.tally.counts()
		return ready == n
	})
}

// connect opens one stream over HTTP/1.1.
func (s *streams) connect(i int) error {
	config := s.tls.Clone()
	config.NextProtos = []string{"http/1.1"}
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(s.ctx, "tcp", s.server)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	s.keep(conn)
	if _, err := io.WriteString(conn, subscription(s.server, path, "")); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	reader := &subscriber{checker: newChecker(s.tally, i, s.had)}
	s.reading.Go(func() { s.read(conn, reader.take) })
	return nil
}

// multiplex opens n streams over one HTTP/2 connection.
func (s *streams) multiplex(first, n int) error {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: s.tls.Clone(), Protocols: &protocols, DisableCompression: true}
	conn, err := transport.NewClientConn(s.ctx, "https", s.server)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	s.keep(conn)
	for i := range n {
		request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "https://"+s.server+path, nil)
		if err != nil {
			return err
		}
		response, err := conn.RoundTrip(request)
		if err != nil {
			return fmt.Errorf("subscribing: %w", err)
		}
		if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			_ = response.Body.Close()
			return fmt.Errorf("subscribing: %s %s", response.Proto, response.Status)
		}
		reader := newChecker(s.tally, first+i, s.had)
		s.reading.Go(func() {
			defer response.Body.Close()
			s.read(response.Body, reader.take)
		})
	}
	return nil
}

// read passes what arrives to take, until the stream ends.
func (s *streams) read(from io.Reader, take func([]byte, int64) error) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if wrong := take(buffer[:n], s.tally.now()); wrong != nil {
			s.fail(wrong)
			return
		}
		if err != nil {
			s.fail(fmt.Errorf("a stream ends: %w", err))
			return
		}
	}
}

// fail makes the run fail, unless it has ended already.
func (s *streams) fail(err error) {
	if !s.closing.Load() {
		s.tally.fail(err)
	}
}

// keep makes Close close a connection.
func (s *streams) keep(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
	if s.closing.Load() {
		_ = c.Close()
	}
}

// Close ends all streams, and waits for their goroutines.
func (s *streams) Close() error {
	s.mu.Lock()
	s.closing.Store(true)
	s.cancel()
	var errs []error
	for _, c := range s.conns {
		errs = append(errs, c.Close())
	}
	s.mu.Unlock()
	s.reading.Wait()
	return errors.Join(errs...)
}
