//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// sockets is how many sockets the connections share.
const sockets = 8

// readers are streams, each on a connection of its own.
type readers struct {
	transports []*quic.Transport
	conns      []*quic.Conn
	cancel     context.CancelFunc
	reading    sync.WaitGroup

	events  atomic.Int64 // read by all
	failure atomic.Pointer[error]
	mu      sync.Mutex
	late    []time.Duration
}

// read opens streams, one after the other.
func (s *settings) read(ctx context.Context, to *server, target string, n int) (*readers, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &readers{cancel: cancel}
	address, err := net.ResolveUDPAddr("udp", to.secure)
	if err != nil {
		return nil, err
	}
	for range sockets {
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		r.transports = append(r.transports, &quic.Transport{Conn: socket})
	}
	path := "/live/bench"
	if target == bare {
		path = "/bare"
	}
	for i := range n {
		if err := r.open(ctx, r.transports[i%sockets], address, "https://"+to.secure+path); err != nil {
			r.close()
			return nil, fmt.Errorf("opening stream %d: %w", i, err)
		}
	}
	return r, nil
}

func (r *readers) open(ctx context.Context, transport *quic.Transport, address net.Addr, url string) error {
	config := &quic.Config{KeepAlivePeriod: 10 * time.Second}
	conn, err := transport.Dial(ctx, address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}}, config) //nolint:gosec // it is this program's own
	if err != nil {
		return err
	}
	r.conns = append(r.conns, conn)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := new(http3.Transport).NewClientConn(conn).RoundTrip(request)
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(answer.Body, 256)
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	if _, err := lines.ReadSlice('\n'); err != nil {
		return err
	}
	r.reading.Go(func() {
		defer answer.Body.Close()
		for {
			line, err := lines.ReadSlice('\n')
			if err != nil {
				if ctx.Err() == nil {
					r.failure.Store(&err)
				}
				return
			}
			sent, ok := bytes.CutPrefix(line, []byte("data: at "))
			if !ok {
				continue
			}
			at, _ := strconv.ParseInt(string(bytes.TrimSpace(sent)), 10, 64)
			r.mu.Lock()
			r.late = append(r.late, time.Since(time.Unix(0, at)))
			r.mu.Unlock()
			r.events.Add(1)
		}
	})
	return nil
}

func (r *readers) close() {
	r.cancel()
	for _, c := range r.conns {
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}
	r.reading.Wait()
	for _, t := range r.transports {
		_ = t.Close()
		_ = t.Conn.Close()
	}
}

// await waits until each stream has read that many events.
func (r *readers) await(events int) error {
	want := int64(events * len(r.conns))
	for deadline := time.Now().Add(20 * time.Second); r.events.Load() < want; time.Sleep(10 * time.Millisecond) {
		if err := r.failure.Load(); err != nil {
			return fmt.Errorf("reading a stream: %w", *err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d deliveries of %d have come", r.events.Load(), want)
		}
	}
	return nil
}

// lateness is from when an event was due to be published until it was read.
func (r *readers) lateness() (p50, p99 float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.late)
	at := func(share float64) float64 { return micros(r.late[int(share*float64(len(r.late)-1))]) / 1000 }
	return at(0.5), at(0.99)
}

// publish publishes events at the rate, and returns how many.
func (s *settings) publish(ctx context.Context, to *server) (events int, err error) {
	tick := time.NewTicker(time.Second / time.Duration(s.rate))
	defer tick.Stop()
	for n := int(s.duration.Seconds() * float64(s.rate)); events < n; events++ {
		at := <-tick.C
		body := bytes.NewBufferString(fmt.Sprintf("at %d", at.UnixNano()))
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to.plain+"/live/bench", body)
		if err != nil {
			return 0, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("publishing: %s", answer.Status)
		}
	}
	return events, nil
}
