package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// crowdedFront is a crowdedSite over TLS.
const crowdedFront = `{
	admin {{admin}}
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	` + crowdedGlobal + `
}
(site) {
	evstream /live/* {
		allow anyone subscribe,publish **
		write_timeout 5s
	}
}
http://{{plain}} {
	import site
}
https://{{tls}} {
	tls internal
	import site
}
`

// TestFiftyOfAThousandThatStopReadingOverHTTP2HoldUpNobody has all streams be detached over
// HTTP/2, five a connection. What stops the slow ones is the window of a stream, that of a
// connection, or TCP.
func TestFiftyOfAThousandThatStopReadingOverHTTP2HoldUpNobody(t *testing.T) {
	s := start(t, crowdedFront)
	const all, each = 1000, 5
	var ended []<-chan struct{}
	var unread []net.Conn
	for i := range 10 {
		socket, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.tls)
		if err != nil {
			t.Fatal(err)
		}
		var window, all uint32 = 16 << 10, 1 << 20
		switch i % 3 {
		case 1:
			window, all = 1<<20, 128<<10
		case 2:
			window, all = 1<<30, 1<<30
			_ = socket.Close()
			socket = dialSmall(t, s.tls)
		}
		conn, framer := openTaken(t, s, socket, each, window, all)
		if i%3 < 2 {
			ended = append(ended, awaitResets(t, conn, framer, each))
		} else {
			unread = append(unread, socket)
		}
	}
	const stalled = 10 * each
	streams := crowdOf(t, s, all-stalled, each, "/live/a", tlsH2)
	eventually(t, "all streams are detached", func() bool {
		return s.metric(`evstream_sessions{broker="default",delivery="detached",protocol="http/2"}`) == all
	})
	outrun(t, s, streams, stalled, 500, ended)
	for _, socket := range unread {
		_ = socket.SetDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, socket); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection that was not read is open")
		}
	}
}

// openTaken opens streams on a connection of which it allows so much of each, and so much of all,
// and reads their opening events.
func openTaken(t *testing.T, s *server, socket net.Conn, streams int, window, all uint32) (*tls.Conn, *http2.Framer) {
	t.Helper()
	config := insecure.Clone()
	config.NextProtos = []string{"h2"}
	conn := tls.Client(socket, config)
	framer := requestH2(t, conn, s.tls, "/live/a", streams, window, all)
	opened := map[uint32]bool{}
	for len(opened) < streams {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.DataFrame:
			opened[f.StreamID] = true
		}
	}
	return conn, framer
}

// stallH2 opens a stream with a window of zero, so that no byte of it may be sent.
// The Go channel is closed when the server ends the stream.
func stallH2(t *testing.T, s *server, path string) <-chan struct{} {
	t.Helper()
	config := insecure.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", s.tls, config)
	if err != nil {
		t.Fatal(err)
	}
	return awaitResets(t, conn, requestH2(t, conn, s.tls, path, 1, 0, 1), 1)
}

// requestH2 begins a connection over HTTP/2, and requests streams of a path. The client allows
// so many bytes of each, and beside what it must so many of the connection.
func requestH2(t *testing.T, conn net.Conn, authority, path string, streams int, window, all uint32) *http2.Framer {
	t.Helper()
	framer := http2.NewFramer(conn, conn)
	_, err := io.WriteString(conn, http2.ClientPreface)
	err = errors.Join(err,
		framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}),
		framer.WriteWindowUpdate(0, all))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, field := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"},
			{Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: authority},
			{Name: ":path", Value: path},
			{Name: "accept", Value: "text/event-stream"},
		} {
			err = errors.Join(err, encoder.WriteField(field))
		}
		err = errors.Join(err, framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
		}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return framer
}

// awaitResets reads, and allows nothing more, until so many streams were reset, or the connection
// ends. The Go channel is closed then.
func awaitResets(t *testing.T, conn net.Conn, framer *http2.Framer, streams int) <-chan struct{} {
	t.Helper()
	ended, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		defer close(ended)
		for streams > 0 {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.PingFrame:
				_ = framer.WritePing(true, f.Data)
			case *http2.RSTStreamFrame:
				streams--
			case *http2.GoAwayFrame:
				return
			}
		}
	}()
	return ended
}
