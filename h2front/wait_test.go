package h2front

import (
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// TestAParkedConnectionAnswers has a client say what needs no server.
func TestAParkedConnectionAnswers(t *testing.T) {
	t.Parallel()
	var servers atomic.Int32
	c, s, front, _ := parked(t, func(s *testServer) { s.before = func(*Conn) { servers.Add(1) } })
	c.must(c.framer.WritePriority(1, http2.PriorityParam{Weight: 3}))
	c.must(c.framer.WriteWindowUpdate(0, 5))
	c.must(c.framer.WriteWindowUpdate(1, 5))
	c.must(c.framer.WriteRawFrame(0x11, 0, 0, []byte("whatever that may be")))
	for i := range byte(maxPings - 1) { // one may have been answered already
		c.must(c.framer.WritePing(false, [8]byte{i}))
		if f, ok := c.next().(*http2.PingFrame); !ok || !f.IsAck() || f.Data != [8]byte{i} {
			t.Fatalf("read %v, want the answer of a PING", f)
		}
		if !front.alone.Load() {
			t.Fatalf("a server has come for PING %d", i)
		}
	}
	// From then on it is a server that answers, which has bounds.
	for i := range byte(2) {
		c.must(c.framer.WritePing(false, [8]byte{200 + i}))
		if f, ok := c.next().(*http2.PingFrame); !ok || !f.IsAck() || f.Data != [8]byte{200 + i} {
			t.Fatalf("read %v, want the answer of a PING", f)
		}
	}
	if n := servers.Load(); n < 2 {
		t.Fatalf("%d servers have come", n)
	}
	goes(t, front)
	c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	wait(t, s.over, "hangup")
	c.served(3)
}

// TestAParkedConnectionMeetsErrors has a client break the rules: it is told what it is told
// by a server.
func TestAParkedConnectionMeetsErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		by   func(*raw)
		want http2.ErrCode
	}{
		"a short PING":              {func(c *raw) { c.must(c.framer.WriteRawFrame(framePing, 0, 0, []byte("short"))) }, http2.ErrCodeFrameSize},
		"a PING of a stream":        {func(c *raw) { c.must(c.framer.WriteRawFrame(framePing, 0, 1, make([]byte, 8))) }, http2.ErrCodeProtocol},
		"a window of no stream":     {func(c *raw) { c.must(c.framer.WriteWindowUpdate(99, 1)) }, http2.ErrCodeProtocol},
		"a window that is too much": {func(c *raw) { c.must(c.framer.WriteWindowUpdate(0, maxWindow)) }, http2.ErrCodeFlowControl},
		"a priority of no stream":   {func(c *raw) { c.must(c.framer.WriteRawFrame(framePriorityUpdate, 0, 0, make([]byte, 4))) }, http2.ErrCodeProtocol},
		"a PRIORITY of no stream":   {func(c *raw) { c.must(c.framer.WriteRawFrame(framePriority, 0, 0, []byte{0, 0, 0, 3, 0})) }, http2.ErrCodeProtocol},
		"a PRIORITY that is short":  {func(c *raw) { c.must(c.framer.WriteRawFrame(framePriority, 0, 1, make([]byte, 4))) }, http2.ErrCodeFrameSize},
		"a reset that is short":     {func(c *raw) { c.must(c.framer.WriteRawFrame(frameReset, 0, 1, make([]byte, 3))) }, http2.ErrCodeFrameSize},
		"a frame that is too large": {func(c *raw) { _, _ = c.conn.Write(appendHead(nil, maxFrame+1, 0x20, 0, 0)) }, http2.ErrCodeFrameSize},
		"a reset of no stream":      {func(c *raw) { c.must(c.framer.WriteRSTStream(99, http2.ErrCodeCancel)) }, http2.ErrCodeProtocol},
		"a block that goes on":      {func(c *raw) { c.must(c.framer.WriteContinuation(1, true, []byte{1})) }, http2.ErrCodeProtocol},
		"a wrong setting": {func(c *raw) {
			c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}))
		}, http2.ErrCodeProtocol},
		"settings acknowledged twice": {func(c *raw) { c.must(c.framer.WriteSettingsAck()) }, http2.ErrCodeProtocol},
		"a wrong block": {func(c *raw) {
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0xff, 0xff, 0xff}, EndStream: true, EndHeaders: true}))
		}, http2.ErrCodeCompression},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s, _, _ := parked(t)
			test.by(c)
			if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != test.want {
				t.Fatalf("read %v, want GOAWAY with %v", f, test.want)
			}
			wait(t, s.over, "hangup")
		})
	}
}

// TestAParkedConnectionMeetsErrorsOfStreams has a client break the rules of a stream that was
// taken, which ends it.
func TestAParkedConnectionMeetsErrorsOfStreams(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]func(*raw) error{
		"it depends on itself": func(c *raw) error {
			return c.framer.WriteRawFrame(framePriority, 0, 1, []byte{0, 0, 0, 1, 9})
		},
		"its window does not grow": func(c *raw) error { return c.framer.WriteRawFrame(frameWindowUpdate, 0, 1, make([]byte, 4)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s, _, _ := parked(t)
			c.must(by(c))
			if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 || f.ErrCode != http2.ErrCodeProtocol {
				t.Fatalf("read %v, want a reset", f)
			}
			wait(t, s.over, "hangup")
			c.served(3)
		})
	}
}
