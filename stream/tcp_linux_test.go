package stream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

func TestTheBytesOfADetachedAnswer(t *testing.T) { overEach(t, testTheBytesOfADetachedAnswer) }

func testTheBytesOfADetachedAnswer(t *testing.T) {
	site := newTCPSite(t, Options{})
	client := site.open("/a")
	const want = "HTTP/1.1 200 OK\r\n" +
		"Cache-Control: no-cache, no-store, no-transform\r\n" +
		"Content-Type: text/event-stream\r\n" +
		"Incremental: ?1\r\n" +
		"X-Accel-Buffering: no\r\n" +
		"Date: DATE\r\n" +
		"Transfer-Encoding: chunked\r\n\r\n"
	if got := regexp.MustCompile(`Date: [^\r]*`).ReplaceAllString(client.header, "Date: DATE"); got != want {
		t.Errorf("the header is\n%q\nnot\n%q", got, want)
	}
	client.expect(site.publish("a", "1", "2"))
	client.session.End()
	client.expect("id: evstream.end\nevent: end\ndata: {}\n\n")
	client.expectEnd()
	site.ended(client.session, ReasonEnded)
}

// There are no heartbeats either: the poller must tell of the hang-up.
func TestAHangUpIsSeenThoughNothingIsWritten(t *testing.T) {
	overEach(t, testAHangUpIsSeenThoughNothingIsWritten)
}

func testAHangUpIsSeenThoughNothingIsWritten(t *testing.T) {
	site := newTCPSite(t, Options{Heartbeat: -1})
	for name, hangUp := range map[string]func(*net.TCPConn) error{
		"close":      (*net.TCPConn).Close,
		"half-close": (*net.TCPConn).CloseWrite,
		"reset":      func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			client := site.open("/a")
			if err := hangUp(client.conn); err != nil {
				t.Fatal(err)
			}
			site.ended(client.session, ReasonClient)
			if n := site.broker.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
		})
	}
	if site.http.TLS != nil {
		t.Run("close_notify", func(t *testing.T) {
			client := site.open("/a")
			if err := client.over.(*tls.Conn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			site.ended(client.session, ReasonClient)
		})
	}
	t.Run("while stalled", func(t *testing.T) {
		client := site.open("/a")
		site.publish("a", numbered(50, 10<<10)...)
		if err := errors.Join(client.conn.SetLinger(0), client.conn.Close()); err != nil {
			t.Fatal(err)
		}
		site.ended(client.session, ReasonClient) // and not because it is slow
	})
}

func TestAStalledClientIsCutAndOthersGoOn(t *testing.T) {
	overEach(t, testAStalledClientIsCutAndOthersGoOn)
}

func testAStalledClientIsCutAndOthersGoOn(t *testing.T) {
	const timeout = 300 * time.Millisecond
	site := newTCPSite(t, Options{WriteTimeout: timeout})
	stalled, others := site.open("/a"), []*tcpClient{site.open("/a"), site.open("/a")}
	began, sent := time.Now(), ""
	for i := 0; ; i++ {
		select {
		case <-stalled.session.Done():
		default:
			if time.Since(began) > patience {
				t.Fatal("the stalled stream is not cut")
			}
			event := site.publish("a", fmt.Sprintf("%d %s", i, strings.Repeat("x", 20<<10)))
			for _, client := range others {
				client.expect(event)
			}
			sent += event
			continue
		}
		break
	}
	if took := time.Since(began); took < timeout {
		t.Errorf("it was cut after %s", took)
	}
	site.ended(stalled.session, ReasonSlow)
	if got, err := io.ReadAll(stalled.body); !strings.HasPrefix(sent, string(got)) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the cut client has %d bytes and %v, as they were sent: %v", len(got), err, strings.HasPrefix(sent, string(got)))
	}
	event := site.publish("a", "on")
	for _, client := range others {
		client.expect(event)
	}
}

// Events that a client does not read wait in the history, which all streams
// share, and not in its send buffer: it is stalled soon.
func TestTheSystemIsNotGivenWhatItCannotSend(t *testing.T) {
	overEach(t, testTheSystemIsNotGivenWhatItCannotSend)
}

func testTheSystemIsNotGivenWhatItCannotSend(t *testing.T) {
	for _, query := range []string{"detached", "attached"} {
		t.Run(query, func(t *testing.T) {
			site := newTCPSite(t, Options{WriteTimeout: 300 * time.Millisecond})
			site.roomy.Store(true)
			client := site.dial()
			client.ask("/a?"+query, "")
			client.readHeader()
			var s *Session
			select {
			case s = <-site.sessions:
			case s = <-site.refused:
			}
			site.publish("a", numbered(100, 10<<10)...)
			site.ended(s, ReasonSlow)
			if n := s.Delivered(); n > 40 {
				t.Errorf("%d of 100 events of 10 KiB are given away, though none is read", n)
			}
		})
	}
}

func TestAClientThatReadsOnAfterAStallGetsEverything(t *testing.T) {
	overEach(t, testAClientThatReadsOnAfterAStallGetsEverything)
}

func testAClientThatReadsOnAfterAStallGetsEverything(t *testing.T) {
	for name, mixed := range map[string]bool{"one channel": false, "a pattern and pushes": true} {
		t.Run(name, func(t *testing.T) {
			site := newTCPSite(t, Options{})
			client := site.open(map[bool]string{true: "/**", false: "/a"}[mixed])
			for round := range 5 {
				want := ""
				if mixed {
					if err := client.session.Push(t.Context(), sse.Event{Data: []byte("pushed")}); err != nil {
						t.Fatal(err)
					}
					client.expect("data: pushed\n\n")
				}
				for i, data := range numbered(60, 10<<10) {
					want += site.publish(map[bool]string{true: fmt.Sprint("c", i%3), false: "a"}[mixed], data)
				}
				// More is published than the system buffers, so that some of it waits.
				if n := client.session.Delivered(); n >= uint64(60*(round+1)) {
					t.Errorf("the client does not stall: %d events are delivered", n)
				}
				client.expect(want)
			}
			client.session.Close(ReasonReload)
			if bye := client.until("\n"); !strings.HasPrefix(bye, "retry: ") {
				t.Errorf("the last words are %q", bye)
			}
			site.ended(client.session, ReasonReload)
		})
	}
}

func TestTheSizeIsThatOfTheBody(t *testing.T) { overEach(t, testTheSizeIsThatOfTheBody) }

func testTheSizeIsThatOfTheBody(t *testing.T) {
	site := newTCPSite(t, Options{})
	client := site.open("/a")
	site.publish("a", numbered(100, 10<<10)...) // which do not fit in, all at once
	client.session.End()
	rest, err := io.ReadAll(client.body)
	if err != nil {
		t.Fatal(err)
	}
	site.ended(client.session, ReasonEnded)
	if n, want := client.session.Size(), int64(len(client.opening)+len(rest)); n != want {
		t.Errorf("the size is told as %d, the body has %d bytes", n, want)
	}
}

func TestABigBacklogArrivesWhole(t *testing.T) { overEach(t, testABigBacklogArrivesWhole) }

func testABigBacklogArrivesWhole(t *testing.T) {
	site := newTCPSite(t, Options{})
	want := site.publish("a", numbered(250, 20<<10)...)
	client := site.open("/a?earliest")
	client.expect(want)
	client.expect(site.publish("a", "live"))
}

// File descriptors are reused: no stream gets the events of another.
func TestStreamsDoNotMixThoughDescriptorsAreUsedAgain(t *testing.T) {
	overEach(t, testStreamsDoNotMixThoughDescriptorsAreUsedAgain)
}

func testStreamsDoNotMixThoughDescriptorsAreUsedAgain(t *testing.T) {
	site := newTCPSite(t, Options{})
	var crowd sync.WaitGroup
	for i := range 8 {
		crowd.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for j := range 40 {
				channel := fmt.Sprintf("c%d-%d", i, j)
				client := site.dial()
				client.ask("/"+channel, "")
				if rng.IntN(5) > 0 {
					client.readOpening()
					want := site.publish(channel, channel+" a", channel+" b")
					if rng.IntN(3) > 0 {
						client.expect(want)
					}
				}
				if rng.IntN(2) == 0 {
					_ = client.conn.SetLinger(0)
				}
				_ = client.conn.Close()
			}
		})
	}
	crowd.Wait()
	for range 8 * 40 { // some could not even be begun
		site.ended(site.latest(), ReasonClient, ReasonError)
	}
}

func TestWhatAClientSendsMeanwhileDoesNoHarm(t *testing.T) {
	overEach(t, testWhatAClientSendsMeanwhileDoesNoHarm)
}

func testWhatAClientSendsMeanwhileDoesNoHarm(t *testing.T) {
	const another = "GET /b HTTP/1.1\r\nHost: test\r\n\r\n"
	for name, tt := range map[string]struct{ with, after string }{
		"with the request": {with: another},
		"a byte":           {with: "\n"},
		"after it":         {after: another},
		"much":             {after: strings.Repeat(another, 200)},
	} {
		t.Run(name, func(t *testing.T) {
			site := newTCPSite(t, Options{})
			client := site.dial()
			client.ask("/a", tt.with)
			client.readOpening()
			client.session = site.latest()
			if _, err := io.WriteString(client.over, tt.after); err != nil {
				t.Fatal(err)
			}
			client.expect(site.publish("a", "1"))
			client.expect(site.publish("a", numbered(50, 10<<10)...))
			// A connection that is closed with unread input is reset, and the
			// bytes written last are lost.
			site.publish("a", "2")
			client.session.End()
			site.ended(client.session, ReasonEnded)
			rest, err := io.ReadAll(client.body)
			if err != nil || !strings.HasSuffix(string(rest), "data: 2\n\nid: evstream.end\nevent: end\ndata: {}\n\n") {
				t.Errorf("the stream ends with %q, %v", rest, err)
			}
		})
	}
}

func TestAbortCutsAStalledClientAndNoOther(t *testing.T) {
	overEach(t, testAbortCutsAStalledClientAndNoOther)
}

func testAbortCutsAStalledClientAndNoOther(t *testing.T) {
	site := newTCPSite(t, Options{})
	stalled, other := site.open("/a"), site.open("/b")
	site.publish("a", numbered(50, 10<<10)...)
	other.session.Abort()
	stalled.session.Abort()
	site.ended(stalled.session, ReasonSlow)
	other.expect(site.publish("b", "on"))
	other.session.Abort()
	other.expect(site.publish("b", "and on"))
}

func TestACloseOfTheServerEndsAllStreams(t *testing.T) {
	overEach(t, testACloseOfTheServerEndsAllStreams)
}

func testACloseOfTheServerEndsAllStreams(t *testing.T) {
	site := newTCPSite(t, Options{})
	var clients []*tcpClient
	for i := range 20 {
		clients = append(clients, site.open("/a"))
		if i%2 == 0 {
			clients[i].session.Close(ReasonReload)
		}
	}
	stalled := site.open("/b")
	site.publish("b", numbered(50, 10<<10)...)
	site.server.Close()
	for i, client := range clients {
		rest, err := io.ReadAll(client.body)
		if told := strings.Contains(string(rest), "retry: "); err != nil || told != (i%2 == 0) {
			t.Errorf("stream %d ends with %q, %v", i, rest, err)
		}
		site.ended(client.session, map[bool]Reason{true: ReasonReload, false: ReasonClosed}[i%2 == 0])
	}
	site.ended(stalled.session, ReasonClosed)
	// Streams that begin later are served attached.
	late := site.dial()
	late.ask("/a", "")
	late.readOpening()
	if !strings.Contains(late.header, "Transfer-Encoding: chunked") {
		t.Errorf("a late stream begins with %q", late.header)
	}
	site.server = NewServer(site.broker) // to be closed at the end
	(<-site.refused).Close(ReasonClosed)
}

// Streams that begin while the Server closes end, detached or attached.
func TestStreamsThatComeWhileTheServerClosesEnd(t *testing.T) {
	overEach(t, testStreamsThatComeWhileTheServerClosesEnd)
}

func testStreamsThatComeWhileTheServerClosesEnd(t *testing.T) {
	site := newTCPSite(t, Options{})
	for range 10 {
		var coming sync.WaitGroup
		var clients [8]*tcpClient
		for i := range clients {
			clients[i] = site.dial()
			coming.Go(func() {
				clients[i].ask("/a", "")
				clients[i].readOpening()
			})
		}
		site.server.Close()
		coming.Wait()
		for range clients {
			select {
			case s := <-site.sessions:
				site.ended(s, ReasonClosed)
			case s := <-site.refused:
				s.Close(ReasonClosed)
				site.ended(s, ReasonClosed)
			}
		}
		site.server = NewServer(site.broker)
	}
}
