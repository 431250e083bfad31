package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// subscriber is one stream, on a connection of its own. One goroutine uses it, until
// that has ended: its own, or that of a poller.
type subscriber struct {
	conn  net.Conn // nil: it is a poller's
	early []byte   // what came with the header
	body  body
	scan  scanner
	next  []uint32 // by publisher: the number that comes next

	received  uint64 // of the events that are measured
	lost, odd uint64 // numbers that were left out; that came twice or too late
	last      time.Time
	closed    bool // the stream ended before the run did
}

// dialer connects subscribers.
type dialer struct {
	url     *url.URL
	header  http.Header
	tls     *tls.Config
	timeout time.Duration
}

// connect subscribes. The stream has begun when it returns: its header is there.
func (d *dialer) connect(ctx context.Context) (*subscriber, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	address := d.url.Host
	if d.url.Port() == "" {
		address = net.JoinHostPort(d.url.Hostname(), map[string]string{"http": "80", "https": "443"}[d.url.Scheme])
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// What blocks on the connection ends with the context.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	s, err := d.subscribe(ctx, conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil && !errors.Is(err, context.Canceled) {
			err = fmt.Errorf("no answer in %s", d.timeout)
		}
		return nil, err
	}
	return s, nil
}

func (d *dialer) subscribe(ctx context.Context, conn net.Conn) (*subscriber, error) {
	if d.url.Scheme == "https" {
		secure := tls.Client(conn, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = d.header
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	read := bufio.NewReader(conn)
	resp, err := http.ReadResponse(read, req) //nolint:bodyclose // the connection is closed
	if err != nil {
		return nil, err
	}
	typ, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if resp.StatusCode != http.StatusOK || !strings.EqualFold(strings.TrimSpace(typ), "text/event-stream") {
		location := ""
		if to := resp.Header.Get("Location"); to != "" {
			location = fmt.Sprintf(", to %q: name that URL", to)
		}
		return nil, fmt.Errorf("it answers %s with %q%s, and not an event stream", resp.Status, resp.Header.Get("Content-Type"), location)
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, fmt.Errorf("the stream is compressed (%q), though that was not asked for", coding)
	}
	early, err := read.Peek(read.Buffered())
	if err != nil {
		return nil, err
	}
	b := body{chunked: len(resp.TransferEncoding) > 0}
	if !b.chunked {
		b.left = resp.ContentLength
	}
	return &subscriber{conn: conn, early: early, body: b}, nil
}

// phase is what is measured now. Its fields do not change.
type phase struct {
	since  time.Time
	first  []uint32 // by publisher: the first number that is measured
	sentAt time.Duration
}

// tally is what all subscribers share.
type tally struct {
	begun     time.Time // of the run: the times of markers count from it
	publishes bool
	phase     atomic.Pointer[phase] // nil while nothing is measured
	delay     *histogram            // of what is published here, or between events
	events    atomic.Uint64         // that came while something is measured
	bytes     atomic.Uint64
	ending    atomic.Bool // streams are closed by the run
}

// read reads the stream until it ends.
func (s *subscriber) read(t *tally) {
	var err error
	for buf := make([]byte, 4<<10); err == nil; {
		var n int
		n, err = s.conn.Read(buf)
		if wrong := s.take(t, buf[:n], time.Now()); wrong != nil {
			err = wrong
		}
	}
	s.closed = !t.ending.Load()
}

// take takes in what was read at an instant. An error says that no more comes.
func (s *subscriber) take(t *tally, b []byte, now time.Time) error {
	for len(b) > 0 {
		data, rest, err := s.body.next(b)
		if len(data) > 0 {
			s.got(t, data, now)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// got takes in data that was read at an instant.
func (s *subscriber) got(t *tally, b []byte, now time.Time) {
	p := t.phase.Load()
	if p != nil {
		t.bytes.Add(uint64(len(b)))
	}
	if !t.publishes {
		n := s.scan.events(b)
		if n > 0 && p != nil {
			t.events.Add(uint64(n))
			s.received += uint64(n)
			if !s.last.IsZero() && s.last.After(p.since) {
				t.delay.add(now.Sub(s.last))
			}
		}
		if n > 0 {
			s.last = now
		}
		return
	}
	s.scan.markers(b, func(m marker) {
		if m.publisher >= len(s.next) {
			return
		}
		next := s.next[m.publisher]
		if p != nil {
			next = max(next, p.first[m.publisher])
		}
		switch {
		case p == nil || m.number < p.first[m.publisher]:
			s.next[m.publisher] = max(next, m.number+1)
			return
		case m.number < next:
			s.odd++
			return
		}
		s.lost += uint64(m.number - next)
		s.next[m.publisher] = m.number + 1
		s.received++
		t.events.Add(1)
		if m.sent >= p.sentAt {
			t.delay.add(now.Sub(t.begun) - m.sent)
		}
	})
}
