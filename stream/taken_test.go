package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// takenClient is a client whose stream is taken from a connection that carries several.
type takenClient struct {
	*client
	ctx   context.Context
	leave context.CancelFunc
	left  int // bytes of the frame that is being written
	good  bool
	sent  chan struct{} // if it is not nil, Write waits until it is closed
}

// headSize is how long the head of a frame is, which is the length of the frame.
const headSize = 8

func newTakenClient() *takenClient {
	c := &takenClient{client: newClient()}
	c.ctx, c.leave = context.WithCancel(context.Background())
	return c
}

func (c *takenClient) AppendHead(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n))
}

func (c *takenClient) Context() context.Context { return c.ctx }

func (c *takenClient) TryWrite(p []byte) (bool, error) {
	c.call()
	c.mu.Lock()
	defer c.mu.Unlock()
	head, body := p[:headSize], p[headSize:]
	switch {
	case c.gone || c.closed:
		return false, net.ErrClosed
	case int(binary.BigEndian.Uint64(head)) != len(body) || c.left > 0:
		return false, errors.New("this is no frame, or it stands within another")
	case c.stalled && c.room < len(body):
		return false, nil
	}
	c.unsent = append(c.unsent, body[:c.allow(len(body))]...)
	c.writes++
	c.flush()
	return true, nil
}

func (c *takenClient) Write(p []byte) (int, error) {
	if c.left == 0 {
		if c.sent != nil {
			select {
			case <-c.sent:
			case <-c.ctx.Done():
				return 0, net.ErrClosed
			}
		}
		c.left = int(binary.BigEndian.Uint64(p[:headSize]))
		return headSize, nil
	}
	n, err := c.block(p) // the hook could come after the end of the stream
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left -= n; c.left == 0 {
		c.flush()
	}
	return n, err
}

// flush ends a frame. The caller holds client.mu.
func (c *takenClient) flush() {
	c.frames = append(c.frames, string(c.unsent))
	c.unsent = nil
}

func (c *takenClient) End(good bool) {
	c.change(func() { c.closed, c.gone, c.good = true, true, good })
	c.leave()
}

// taker takes the stream, of which the client is the server's writer, too.
func (c *takenClient) taker(http.ResponseWriter) func() (Taken, error) {
	return func() (Taken, error) {
		c.change(func() { c.deadline = time.Time{} }) // that of the opening
		return c, nil
	}
}

// takeClient begins a stream that is taken from the server by DetachStream.
func takeClient(t *testing.T, server *Server, o Options) (*served, *takenClient) {
	t.Helper()
	s, err := server.Session(o)
	if err != nil {
		t.Fatal(err)
	}
	c := newTakenClient()
	if ok, err := s.DetachStream(c.client, c.taker); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return &served{s, c.client, server, server.broker, c.leave}, c
}

// openTaken begins a stream on a broker of its own, in a bubble.
func openTaken(t *testing.T, o Options) (*served, *takenClient) {
	t.Helper()
	other := serve(t, Options{}) // for its broker
	o.Subscribe.Channels = []string{"a"}
	s, c := takeClient(t, other.server, o)
	synctest.Wait()
	return s, c
}
