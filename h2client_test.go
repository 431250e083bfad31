package evstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2client is a client over HTTP/2 and TLS that sends the frames that it is told to send.
type h2client struct {
	t        testing.TB
	conn     *tls.Conn
	framer   *http2.Framer // reads, and writes at once
	out      *bufio.Writer
	buffered *http2.Framer // writes to out
	block    bytes.Buffer
	encoder  *hpack.Encoder
}

// lastPing is the PING after everything else that an h2client sends.
var lastPing = [8]byte{0xee, 0xdd, 0xcc}

// dialH2 opens a connection with a large window of its own.
func dialH2(t testing.TB, address string, settings ...http2.Setting) *h2client {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * patience)) // of a whole test, however busy the machine is
	c := &h2client{t: t, conn: conn, framer: http2.NewFramer(conn, conn), out: bufio.NewWriterSize(conn, 16<<10)}
	c.buffered = http2.NewFramer(c.out, nil)
	c.framer.AllowIllegalWrites, c.buffered.AllowIllegalWrites = true, true
	c.encoder = hpack.NewEncoder(&c.block)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	c.must(c.framer.WriteSettings(settings...))
	c.must(c.framer.WriteWindowUpdate(0, 1<<20))
	return c
}

func (c *h2client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// header is the header block of a request.
func (c *h2client) header(method, path string) []byte {
	c.block.Reset()
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}} {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return c.block.Bytes()
}

// ask sends the header of a request. An error is for who reads.
func (c *h2client) ask(frames *http2.Framer, id uint32, method, path string, whole bool) {
	_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.header(method, path), EndStream: whole, EndHeaders: true})
}

// flush sends what was buffered. An error is for who reads.
func (c *h2client) flush() { _ = c.out.Flush() }

// awaitData reads until a stream has data, and acknowledges settings.
func (c *h2client) awaitData(id uint32) {
	c.t.Helper()
	for {
		f, err := c.framer.ReadFrame()
		c.must(err)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.must(c.framer.WriteSettingsAck())
			}
		case *http2.DataFrame:
			if f.StreamID == id && f.Length > 0 {
				return
			}
		}
	}
}

// readAll reads until the last PING is answered or the connection ends, and tells which.
func (c *h2client) readAll() chan string {
	end := make(chan string, 1)
	go func() {
		for {
			f, err := c.framer.ReadFrame()
			if err != nil {
				end <- "closed"
				return
			}
			switch f := f.(type) {
			case *http2.PingFrame:
				if f.IsAck() && f.Data == lastPing {
					end <- "served"
					return
				}
			case *http2.GoAwayFrame:
				if f.ErrCode != http2.ErrCodeNo {
					end <- f.ErrCode.String()
					return
				}
			}
		}
	}()
	return end
}
