package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/internal/resp"
)

// link is a connection to the primary for the tail alone. go-redis dials it, with
// TLS if configured, signs in, and executes the rare commands. The commands of the
// tail bypass go-redis: their replies are received whole into one slice and taken
// apart there, without an allocation for each entry.
//
// Commands are for one goroutine; cut is safe for concurrent use.
type link struct {
	client *redis.Client
	conn   *redis.Conn // the only one of client
	// patience bounds the time in which nothing is received or sent.
	patience time.Duration

	raw  net.Conn
	out  []byte // reused: commands to send
	in   []byte // reused: what was received
	rest int    // how many bytes at the end of in belong to the next reply

	mu     sync.Mutex
	dialed []net.Conn // by go-redis; the last one is in use
	why    error      // the error that it was cut with
}

// dialLink connects to the server of a client.
func dialLink(ctx context.Context, of *redis.Client, patience time.Duration) (*link, error) {
	w := &link{patience: patience}
	options := *of.Options()
	dial := options.Dialer
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.why != nil {
			_ = conn.Close()
			return nil, w.why
		}
		w.dialed = append(w.dialed, conn)
		return &patientConn{conn, patience}, nil
	}
	options.Protocol = 2 // without push messages
	options.PoolSize, options.MinIdleConns, options.PipelinePoolSize = 1, 0, -1
	options.MaxRetries, options.DialerRetries = -1, 1
	options.DialTimeout = min(options.DialTimeout, patience)
	options.ReadTimeout, options.WriteTimeout = -2, patience // patientConn has its own
	options.ContextTimeoutEnabled = true
	w.client = redis.NewClient(&options)
	w.conn = w.client.Conn()

	stop := context.AfterFunc(ctx, func() { w.cut(ctx.Err()) })
	defer stop()
	// Not PING, which a server that cannot write to its disk refuses.
	if err := w.conn.Time(ctx).Err(); err != nil {
		err = w.reason(err)
		w.close()
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raw = w.dialed[len(w.dialed)-1]
	return w, nil
}

// patientConn is the connection for go-redis: a large reply may take any time, as
// long as something is received within patience.
type patientConn struct {
	net.Conn
	patience time.Duration
}

// Read implements net.Conn.
func (c *patientConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// cut makes the current command and all later ones fail, with the err of the first
// cut that has one.
func (w *link) cut(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == nil {
		w.why = err
	}
	for _, conn := range w.dialed {
		_ = conn.Close()
	}
}

var errLinkClosed = errors.New("the connection is closed")

// close releases the link. It is for the goroutine of the commands.
func (w *link) close() {
	w.cut(errLinkClosed)
	_ = w.conn.Close()
	_ = w.client.Close()
}

// reason is the error that the link was cut with, and err if it was not.
func (w *link) reason(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why != nil {
		return w.why
	}
	return err
}

// command adds a command to those that send sends.
func (w *link) command(words ...string) { w.out = resp.AppendCommand(w.out, words...) }

// send sends the commands. Every reply must be received, in order, before conn is
// used again.
func (w *link) send() error {
	_ = w.raw.SetWriteDeadline(time.Now().Add(w.patience))
	_, err := w.raw.Write(w.out)
	w.out = w.out[:0]
	if err != nil {
		return w.reason(err)
	}
	return nil
}

const (
	minBuffer = 64 << 10
	maxBuffer = 4 << 20 // a larger one is not kept for the next reply
	maxReply  = resp.MaxLen
)

// receive returns one reply, for which the server may take wait longer.
func (w *link) receive(wait time.Duration) (*resp.Reply, error) {
	if w.in == nil || cap(w.in) > maxBuffer && w.rest < minBuffer {
		w.in = append(make([]byte, 0, minBuffer), w.in[len(w.in)-w.rest:]...)
	} else {
		w.in = w.in[:copy(w.in, w.in[len(w.in)-w.rest:])]
	}
	w.rest = 0
	for s := (resp.Scanner{}); ; {
		whole, err := s.Scan(w.in)
		if err != nil {
			return nil, err
		}
		if whole {
			w.rest = len(w.in) - s.Len()
			return resp.NewReply(string(w.in[:s.Len()])), nil
		}
		if len(w.in) > maxReply {
			return nil, fmt.Errorf("a reply has more than %d bytes", maxReply)
		}
		if len(w.in) == cap(w.in) {
			w.in = slices.Grow(w.in, len(w.in))
		}
		_ = w.raw.SetReadDeadline(time.Now().Add(wait + w.patience))
		n, err := w.raw.Read(w.in[len(w.in):cap(w.in)])
		if err != nil {
			return nil, w.reason(err)
		}
		w.in = w.in[:len(w.in)+n]
	}
}
