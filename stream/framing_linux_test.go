package stream

import (
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
)

// The bytes on the socket are a chunked body, also where the system takes part of a
// write, and whatever the sizes of events.
func TestTheBytesOfAChunkedBody(t *testing.T) { overEach(t, testTheBytesOfAChunkedBody) }

func testTheBytesOfAChunkedBody(t *testing.T) {
	site := newTCPSite(t, Options{})
	client := site.dial()
	client.ask("/a", "")
	client.readHeader()
	s := site.latest()
	fd := descriptor(s)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4<<10); err != nil {
		t.Fatal(err)
	}
	var chunks dechunker
	var body []byte
	rng := rand.New(rand.NewPCG(1, 2))
	read := func(done func() bool) {
		for !done() {
			p := make([]byte, 1+rng.IntN(3000))
			n, err := client.in.Read(p)
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(body), err)
			}
			body = chunks.appendBody(body, p[:n])
		}
	}
	read(func() bool {
		return strings.HasSuffix(string(body), "\n\n") && strings.Contains(string(body), "evstream.open")
	})
	begin, want := len(body), ""
	for range 5 {
		for range 60 {
			want += site.publish("a", strings.Repeat("x", rng.IntN(8<<10)))
		}
		read(func() bool { return len(body)-begin >= len(want)/2 })
	}
	want += "id: evstream.end\nevent: end\ndata: {}\n\n"
	s.End()
	read(func() bool { return chunks.over })
	if got := string(body[begin:]); got != want {
		t.Errorf("the body has %d bytes, not the %d that were published", len(got), len(want))
	}
	if rest, err := io.ReadAll(client.in); err != nil || len(rest) > 0 {
		t.Errorf("after the last chunk: %q, %v", rest, err)
	}
	site.ended(s, ReasonEnded)
	if n := s.Size(); n != int64(len(body)) {
		t.Errorf("the size is told as %d, the body has %d bytes", n, len(body))
	}
}

// With "Connection: close" the fetch of Node.js takes a body that is cut off for a
// complete one. A connection ends after the last chunk whether it says so or not.
func TestADetachedAnswerDoesNotSayThatTheConnectionCloses(t *testing.T) {
	overEach(t, testADetachedAnswerDoesNotSayThatTheConnectionCloses)
}

func testADetachedAnswerDoesNotSayThatTheConnectionCloses(t *testing.T) {
	site := newTCPSite(t, Options{})
	for _, query := range []string{"detached", "attached"} {
		t.Run(query, func(t *testing.T) {
			client := site.dial()
			client.ask("/a?"+query, "")
			client.readOpening()
			var s *Session
			select {
			case s = <-site.sessions:
			case s = <-site.refused:
			}
			s.End()
			client.expect("id: evstream.end\nevent: end\ndata: {}\n\n")
			client.expectEnd()
			if strings.Contains(client.header, "Connection: close") != (query == "attached") || !strings.Contains(client.header, "Transfer-Encoding: chunked") {
				t.Errorf("the header is %q", client.header)
			}
			site.ended(s, ReasonEnded)
		})
	}
}
