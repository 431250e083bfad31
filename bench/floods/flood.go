//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flood is what a client sends beside a stream, on one connection.
type flood struct {
	name   string
	frames int
	unread bool          // the client reads nothing until it has sent all
	pause  time.Duration // before each frame
	send   func(o *out, i int)
}

// out makes frames, of which one is sent after the other.
type out struct {
	*http2.Framer
	buf     bytes.Buffer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

func newOut() *out {
	o := new(out)
	o.Framer = http2.NewFramer(&o.buf, nil)
	o.AllowIllegalWrites = true
	o.encoder = hpack.NewEncoder(&o.block)
	return o
}

// ask is the header of a request.
func (o *out) ask(id uint32, path string) {
	o.block.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}} {
		_ = o.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = o.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: o.block.Bytes(), EndStream: true, EndHeaders: true})
}

var lastPing = [8]byte{0xee, 0xdd, 0xcc}

// floods are all; stream 1 is the one that is there.
var floods = []flood{
	{name: "requests of pages", frames: 2000, send: func(o *out, i int) { o.ask(id(i), "/plain") }},
	{name: "resets of pages", frames: 4000, send: func(o *out, i int) { o.reset(i, "/plain") }},
	{name: "resets of streams", frames: 4000, send: func(o *out, i int) { o.reset(i, "/live/a") }},
	{name: "resets by the server", frames: 4000, send: func(o *out, i int) {
		if i%2 == 0 {
			o.ask(id(i/2), "/live/a")
		} else {
			_ = o.WriteRawFrame(http2.FrameWindowUpdate, 0, id(i/2), make([]byte, 4))
		}
	}},
	{name: "resets of what is not open", frames: 20_000, send: func(o *out, i int) { _ = o.WriteRSTStream(id(0)-2, http2.ErrCodeCancel) }},
	{name: "pings", frames: 20_000, send: func(o *out, i int) { _ = o.WritePing(false, [8]byte{byte(i), byte(i >> 8), 1}) }},
	{name: "pings unread", frames: 300_000, unread: true, send: func(o *out, i int) { _ = o.WritePing(false, [8]byte{byte(i), byte(i >> 8), 1}) }},
	{name: "settings", frames: 20_000, send: settingsFrame},
	{name: "settings unread", frames: 300_000, unread: true, send: settingsFrame},
	{name: "windows of the connection", frames: 20_000, send: func(o *out, _ int) { _ = o.WriteWindowUpdate(0, 1) }},
	{name: "windows of the stream", frames: 20_000, send: func(o *out, _ int) { _ = o.WriteWindowUpdate(1, 1) }},
	{name: "priorities", frames: 20_000, send: func(o *out, i int) { _ = o.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1}) }},
	{name: "unknown frames", frames: 20_000, send: func(o *out, i int) { _ = o.WriteRawFrame(0xfe, 0xff, uint32(i), make([]byte, 100)) }},
	{name: "data of the stream", frames: 2000, send: func(o *out, _ int) { _ = o.WriteData(1, false, make([]byte, 1000)) }},
	{name: "a header without an end", frames: 20_000, send: func(o *out, i int) {
		if i == 0 {
			_ = o.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x82, 0x87, 0x84}})
			return
		}
		_ = o.WriteContinuation(3, false, []byte{0x40, 1, 'x', 1, 'y'})
	}},
	{name: "windows that are never renewed", frames: 200, unread: true, send: func(o *out, i int) { o.ask(id(i), "/large") }},
	{name: "a page each 150 ms", frames: 20, pause: 150 * time.Millisecond, send: func(o *out, i int) { o.ask(id(i), "/plain") }},
	{name: "a ping each 150 ms", frames: 20, pause: 150 * time.Millisecond, send: func(o *out, i int) { _ = o.WritePing(false, [8]byte{1, byte(i)}) }},
	{name: "settings each 150 ms", frames: 20, pause: 150 * time.Millisecond, send: settingsFrame},
	{name: "a priority each 150 ms", frames: 20, pause: 150 * time.Millisecond, send: func(o *out, i int) { _ = o.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1}) }},
	{name: "a reset stream each 150 ms", frames: 20, pause: 150 * time.Millisecond, send: func(o *out, i int) {
		o.ask(id(i), "/live/a")
		_ = o.WriteRSTStream(id(i), http2.ErrCodeCancel)
	}},
}

func id(i int) uint32 { return uint32(2*i + 3) }

func (o *out) reset(i int, path string) {
	if i%2 == 0 {
		o.ask(id(i/2), path)
	} else {
		_ = o.WriteRSTStream(id(i/2), http2.ErrCodeCancel)
	}
}

// settingsFrame changes what streams are allowed, up and down, and to nothing.
func settingsFrame(o *out, i int) {
	_ = o.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 1 << 20, 1, 1 << 16, 1<<30 - 1}[i%5]})
}

// cost is what a flood takes, of a connection.
type cost struct {
	cpu            time.Duration
	back, resident float64
	ends           []string
}

// run floods a server over n connections.
func (f *flood) run(s *server, n int) (c cost, err error) {
	opening := newOut()
	_, _ = io.WriteString(&opening.buf, http2.ClientPreface)
	_ = opening.WriteSettings()
	_ = opening.WriteWindowUpdate(0, 1<<20)
	opening.ask(1, "/live/a")
	begin := bytes.Clone(opening.buf.Bytes())
	opening.buf.Reset()
	var pieces [][]byte // one, unless there are pauses
	for i := range f.frames {
		f.send(opening, i)
		if f.pause > 0 {
			pieces = append(pieces, bytes.Clone(opening.buf.Bytes()))
			opening.buf.Reset()
		}
	}
	_ = opening.WritePing(false, lastPing)
	pieces = append(pieces, opening.buf.Bytes())

	var conns []*tls.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.NetConn().(*net.TCPConn).SetLinger(0)
			_ = conn.NetConn().Close()
		}
		err = errors.Join(err, s.awaitServers(0))
	}()
	for range n {
		conn, err := open(s.address, begin)
		if err != nil {
			return c, err
		}
		conns = append(conns, conn)
	}
	servers := n
	if s.delivery == "auto" {
		servers = 0
	}
	if err := s.awaitServers(servers); err != nil {
		return c, err
	}
	if err := s.collect(); err != nil {
		return c, err
	}
	before, _ := s.Resident()
	cpu := s.CPU()
	type result struct {
		back int
		end  string
	}
	results := make(chan result, n)
	for _, conn := range conns {
		go func() {
			var r result
			r.back, r.end = f.over(conn, pieces)
			results <- r
		}()
	}
	for range n {
		r := <-results
		c.back += float64(r.back) / float64(n)
		c.ends = append(c.ends, r.end)
	}
	c.cpu = (s.CPU() - cpu) / time.Duration(n)
	_, most := s.Resident()
	c.resident = (most - before) / float64(n)
	return c, nil
}

// open opens a connection with a stream, and waits for its first event.
func open(address string, begin []byte) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"h2"}}) //nolint:gosec // our own
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(begin); err != nil {
		return nil, err
	}
	for frames := http2.NewFramer(conn, conn); ; {
		f, err := frames.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("opening a stream: %w", err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = frames.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if f.Length > 0 {
				return conn, nil
			}
		}
	}
}

// counted counts what is read.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// over sends a flood over a connection, and tells what came back, and how it ended: the last PING
// is answered, the server says why it ends the connection, or the connection ends.
func (f *flood) over(conn *tls.Conn, pieces [][]byte) (int, string) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, piece := range pieces {
			time.Sleep(f.pause)
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	}()
	if f.unread {
		<-sent
	}
	back := &counted{Reader: conn}
	end := "closed"
	for frames := http2.NewFramer(nil, back); ; {
		frame, err := frames.ReadFrame()
		if err != nil {
			break
		}
		if p, ok := frame.(*http2.PingFrame); ok && p.IsAck() && p.Data == lastPing {
			end = "served"
			break
		}
		if g, ok := frame.(*http2.GoAwayFrame); ok && g.ErrCode != http2.ErrCodeNo {
			end = g.ErrCode.String()
			break
		}
	}
	if end == "closed" {
		_ = conn.NetConn().Close()
	}
	<-sent
	return back.n, end
}
