package hook

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// selfTestClient makes requests, and reads the answers.
type selfTestClient struct {
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
}

// client makes a request for a stream, and when the server has gone another one, with a
// header that only who knows of the first one understands.
func (t *selfTest) client(conn net.Conn) error {
	buffered := bufio.NewWriter(conn)
	c := &selfTestClient{framer: http2.NewFramer(buffered, conn)}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	_, _ = buffered.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings()
	_ = c.framer.WriteWindowUpdate(0, 1<<20)
	_ = c.framer.WriteSettingsAck() // before the server's come: it does not know
	c.request(1, "/stream")
	sent := make(chan struct{})
	t.running.Go(func() { // the server writes before it reads all
		defer close(sent)
		_ = buffered.Flush()
	})
	err := c.reads(1, "one", false)
	if err != nil {
		_ = conn.Close()
	}
	if <-sent; err != nil {
		return err
	}
	select {
	case <-t.gone:
	case <-time.After(selfTestTime):
		return errors.New("the server did not go when its last stream was taken")
	}
	c.request(3, "/")
	t.running.Go(func() { _ = buffered.Flush() })
	if err := c.reads(3, "again", true); err != nil {
		return err
	}
	t.running.Go(func() { _, _ = t.stream.Write(nil, []byte("two"), true) })
	return c.reads(1, "two", true)
}

// request writes a request.
func (c *selfTestClient) request(id uint32, path string) {
	c.block.Reset()
	for _, f := range [][2]string{{":method", http.MethodGet}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}, {"x-again", "again"}} {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true})
}

// reads reads the body of an answer, or what follows of it.
func (c *selfTestClient) reads(id uint32, want string, end bool) error {
	for body := ""; ; {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				return errors.New("the answer is empty")
			}
		case *http2.DataFrame:
			body += string(f.Data())
			if f.StreamID == id && body == want && f.StreamEnded() == end {
				return nil
			}
			if f.StreamID != id || len(body) > len(want) || f.StreamEnded() {
				return fmt.Errorf("the answer is %q, and should be %q", body, want)
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("the server ended the connection: %s", f.ErrCode)
		case *http2.RSTStreamFrame:
			return fmt.Errorf("the server ended the stream: %s", f.ErrCode)
		}
	}
}
