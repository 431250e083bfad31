package stream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

func TestTheBytesOfADetachedAnswer(t *testing.T) {
	v := newTCPSite(t, Options{})
	g := v.open("/a")
	const want = "HTTP/1.1 200 OK\r\n" +
		"Cache-Control: no-cache, no-store, no-transform\r\n" +
		"Connection: close\r\n" +
		"Content-Type: text/event-stream\r\n" +
		"X-Accel-Buffering: no\r\n" +
		"Date: DATE\r\n\r\n"
	if got := regexp.MustCompile(`Date: [^\r]*`).ReplaceAllString(g.header, "Date: DATE"); got != want {
		t.Errorf("the header is\n%q\nnot\n%q", got, want)
	}
	g.expect(v.publish("a", "1", "2"))
	g.session.End()
	g.expect("id: evstream.end\nevent: end\ndata: \n\n")
	if _, err := g.in.ReadByte(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	v.ended(g.session, ReasonEnded)
}

// Nothing is written meanwhile that would fail.
func TestAHangUpIsSeenWithinASecond(t *testing.T) {
	v := newTCPSite(t, Options{Heartbeat: -1})
	for name, hangUp := range map[string]func(*net.TCPConn) error{
		"close":      (*net.TCPConn).Close,
		"half-close": (*net.TCPConn).CloseWrite,
		"reset":      func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			g := v.open("/a")
			if err := hangUp(g.conn); err != nil {
				t.Fatal(err)
			}
			if took := v.ended(g.session, ReasonClient); took > time.Second {
				t.Errorf("it took %s", took)
			}
			if n := v.broker.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
		})
	}
	t.Run("while stalled", func(t *testing.T) {
		g := v.open("/a")
		v.publish("a", numbered(50, 10<<10)...)
		if err := errors.Join(g.conn.SetLinger(0), g.conn.Close()); err != nil {
			t.Fatal(err)
		}
		if took := v.ended(g.session, ReasonClient); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAStalledClientIsCutAndOthersGoOn(t *testing.T) {
	const timeout = 300 * time.Millisecond
	v := newTCPSite(t, Options{WriteTimeout: timeout})
	stalled, others := v.open("/a"), []*tcpClient{v.open("/a"), v.open("/a")}
	began, sent := time.Now(), ""
	for i := 0; ; i++ {
		select {
		case <-stalled.session.Done():
		default:
			if time.Since(began) > patience {
				t.Fatal("the stalled stream is not cut")
			}
			event := v.publish("a", fmt.Sprintf("%d %s", i, strings.Repeat("x", 20<<10)))
			for _, g := range others {
				g.expect(event)
			}
			sent += event
			continue
		}
		break
	}
	if took := time.Since(began); took < timeout {
		t.Errorf("it was cut after %s", took)
	}
	v.ended(stalled.session, ReasonSlow)
	if got, err := io.ReadAll(stalled.in); !strings.HasPrefix(sent, string(got)) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the cut client has %d bytes and %v, as they were sent: %v", len(got), err, strings.HasPrefix(sent, string(got)))
	}
	event := v.publish("a", "on")
	for _, g := range others {
		g.expect(event)
	}
}

// What a client does not read waits in the history, which all share, and not in
// a buffer of its own: it is stalled soon.
func TestTheSystemIsNotGivenWhatItCannotSend(t *testing.T) {
	for _, query := range []string{"detached", "attached"} {
		t.Run(query, func(t *testing.T) {
			v := newTCPSite(t, Options{WriteTimeout: 300 * time.Millisecond})
			v.roomy.Store(true)
			g := v.dial()
			g.ask("/a?"+query, "")
			g.header = g.until("\r\n\r\n")
			var s *Session
			select {
			case s = <-v.sessions:
			case s = <-v.refused:
			}
			v.publish("a", numbered(100, 10<<10)...)
			v.ended(s, ReasonSlow)
			if n := s.Delivered(); n > 40 {
				t.Errorf("%d of 100 events of 10 KiB are given away, though none is read", n)
			}
		})
	}
}

func TestAClientThatReadsOnAfterAStallGetsEverything(t *testing.T) {
	for name, mixed := range map[string]bool{"one channel": false, "a pattern and pushes": true} {
		t.Run(name, func(t *testing.T) {
			v := newTCPSite(t, Options{})
			g := v.open(map[bool]string{true: "/**", false: "/a"}[mixed])
			for round := range 5 {
				want := ""
				if mixed {
					if err := g.session.Push(t.Context(), sse.Event{Data: []byte("pushed")}); err != nil {
						t.Fatal(err)
					}
					g.expect("data: pushed\n\n")
				}
				for i, data := range numbered(60, 10<<10) {
					want += v.publish(map[bool]string{true: fmt.Sprint("c", i%3), false: "a"}[mixed], data)
				}
				// More is published than the system buffers: some of it waits.
				if n := g.session.Delivered(); n >= uint64(60*(round+1)) {
					t.Errorf("the client does not stall: %d events are delivered", n)
				}
				g.expect(want)
			}
			g.session.Close(ReasonReload)
			if bye := g.until("\n\n"); !strings.HasPrefix(bye, "retry: ") {
				t.Errorf("the last words are %q", bye)
			}
			v.ended(g.session, ReasonReload)
		})
	}
}

func TestTheSizeIsThatOfTheBody(t *testing.T) {
	v := newTCPSite(t, Options{})
	g := v.open("/a")
	v.publish("a", numbered(100, 10<<10)...) // which do not fit in, all at once
	g.session.End()
	rest, err := io.ReadAll(g.in)
	if err != nil {
		t.Fatal(err)
	}
	v.ended(g.session, ReasonEnded)
	if n, want := g.session.Size(), int64(len(g.opening)+len(rest)); n != want {
		t.Errorf("the size is told as %d, the body has %d bytes", n, want)
	}
}

func TestABigBacklogArrivesWhole(t *testing.T) {
	v := newTCPSite(t, Options{})
	want := v.publish("a", numbered(250, 20<<10)...)
	g := v.open("/a?earliest")
	g.expect(want)
	g.expect(v.publish("a", "live"))
}

// Descriptors are used again and again: no stream gets anything of another.
func TestStreamsDoNotMixThoughDescriptorsAreUsedAgain(t *testing.T) {
	v := newTCPSite(t, Options{})
	var crowd sync.WaitGroup
	for i := range 8 {
		crowd.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for j := range 40 {
				channel := fmt.Sprintf("c%d-%d", i, j)
				g := v.dial()
				g.ask("/"+channel, "")
				if rng.IntN(5) > 0 {
					g.greeted()
					want := v.publish(channel, channel+" a", channel+" b")
					if rng.IntN(3) > 0 {
						g.expect(want)
					}
				}
				if rng.IntN(2) == 0 {
					_ = g.conn.SetLinger(0)
				}
				_ = g.conn.Close()
			}
		})
	}
	crowd.Wait()
	for range 8 * 40 { // some could not even be begun
		v.ended(v.latest(), ReasonClient, ReasonError)
	}
}

// What the system tells of a connection that is closed must not reach the one
// that has its descriptor now.
func TestNewsOfAnEarlierConnectionIsIgnored(t *testing.T) {
	v := newTCPSite(t, Options{})
	g := v.open("/a")
	k := g.session.detached.Load()
	l := k.conn.(*tcpConn)
	l.poller.dispatch(&syscall.EpollEvent{Events: syscall.EPOLLHUP, Fd: l.fd, Pad: l.number - 1})
	g.expect(v.publish("a", "1"))
	l.poller.dispatch(&syscall.EpollEvent{Events: syscall.EPOLLHUP, Fd: l.fd, Pad: l.number})
	v.ended(g.session, ReasonClient)
}

// herald tells of a hang-up.
type hangupChan chan struct{}

func (hangupChan) onWritable() {}
func (h hangupChan) onHangup() {
	select {
	case h <- struct{}{}:
	default: // it is told already
	}
}

// A connection may be forgotten when its descriptor is another's by now.
func TestForgettingAnEarlierConnectionLeavesTheLaterOneWatched(t *testing.T) {
	poller, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	p := poller.(*epoll)
	var running sync.WaitGroup
	running.Go(p.run)
	defer running.Wait()
	defer p.close()
	pair := func() [2]int {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Close(fds[0])
			_ = syscall.Close(fds[1])
		})
		return fds
	}
	earlier, later := pair(), pair()
	fd := int32(earlier[0])
	var first, second int32
	if err := p.add(fd, make(hangupChan, 1), &first); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(later[0], earlier[0], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	told := make(hangupChan, 1)
	if err := p.add(fd, told, &second); err != nil {
		t.Fatal(err)
	}
	(&epollWatch{poller: p, fd: fd, number: first}).stop()
	if err := syscall.Shutdown(later[1], syscall.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(patience):
		t.Error("the later connection's end is not told")
	}
}

func TestWhatAClientSendsMeanwhileDoesNoHarm(t *testing.T) {
	const another = "GET /b HTTP/1.1\r\nHost: test\r\n\r\n"
	for name, tt := range map[string]struct{ with, after string }{
		"with the request": {with: another},
		"a byte":           {with: "\n"},
		"after it":         {after: another},
		"much":             {after: strings.Repeat(another, 200)},
	} {
		t.Run(name, func(t *testing.T) {
			v := newTCPSite(t, Options{})
			g := v.dial()
			g.ask("/a", tt.with)
			g.greeted()
			g.session = v.latest()
			if _, err := io.WriteString(g.conn, tt.after); err != nil {
				t.Fatal(err)
			}
			g.expect(v.publish("a", "1"))
			g.expect(v.publish("a", numbered(50, 10<<10)...))
			// A connection that is closed with something unread is reset, and
			// what was written last is lost.
			v.publish("a", "2")
			g.session.End()
			v.ended(g.session, ReasonEnded)
			rest, err := io.ReadAll(g.in)
			if err != nil || !strings.HasSuffix(string(rest), "data: 2\n\nid: evstream.end\nevent: end\ndata: \n\n") {
				t.Errorf("the stream ends with %q, %v", rest, err)
			}
		})
	}
}

func TestAbortCutsAStalledClientAndNoOther(t *testing.T) {
	v := newTCPSite(t, Options{})
	stalled, other := v.open("/a"), v.open("/b")
	v.publish("a", numbered(50, 10<<10)...)
	other.session.Abort()
	stalled.session.Abort()
	v.ended(stalled.session, ReasonSlow)
	other.expect(v.publish("b", "on"))
	other.session.Abort()
	other.expect(v.publish("b", "and on"))
}

func TestACloseOfTheServerEndsAllStreams(t *testing.T) {
	v := newTCPSite(t, Options{})
	var guests []*tcpClient
	for i := range 20 {
		guests = append(guests, v.open("/a"))
		if i%2 == 0 {
			guests[i].session.Close(ReasonReload)
		}
	}
	stalled := v.open("/b")
	v.publish("b", numbered(50, 10<<10)...)
	v.server.Close()
	for i, g := range guests {
		rest, err := io.ReadAll(g.in)
		if told := strings.Contains(string(rest), "retry: "); err != nil || told != (i%2 == 0) {
			t.Errorf("stream %d ends with %q, %v", i, rest, err)
		}
		v.ended(g.session, map[bool]Reason{true: ReasonReload, false: ReasonClosed}[i%2 == 0])
	}
	v.ended(stalled.session, ReasonClosed)
	// What comes later is attached.
	late := v.dial()
	late.ask("/a", "")
	late.greeted()
	if !strings.Contains(late.header, "Transfer-Encoding: chunked") {
		t.Errorf("a late stream begins with %q", late.header)
	}
	v.server = NewServer(v.broker) // to be closed at the end
	(<-v.refused).Close(ReasonClosed)
}

// Streams come while the server closes: each ends, whichever way it went.
func TestStreamsThatComeWhileTheServerClosesEnd(t *testing.T) {
	v := newTCPSite(t, Options{})
	for range 10 {
		var coming sync.WaitGroup
		var guests [8]*tcpClient
		for i := range guests {
			guests[i] = v.dial()
			coming.Go(func() {
				guests[i].ask("/a", "")
				guests[i].greeted()
			})
		}
		v.server.Close()
		coming.Wait()
		for range guests {
			select {
			case s := <-v.sessions:
				v.ended(s, ReasonClosed)
			case s := <-v.refused:
				s.Close(ReasonClosed)
				v.ended(s, ReasonClosed)
			}
		}
		v.server = NewServer(v.broker)
	}
}

func TestWhatCannotBeDetachedIsServed(t *testing.T) {
	v := newTCPSite(t, Options{})
	t.Run("HTTP/1.0", func(t *testing.T) {
		g := v.dial()
		if _, err := io.WriteString(g.conn, "GET /a HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		g.greeted()
		if !strings.HasPrefix(g.header, "HTTP/1.0 200 OK\r\n") || strings.Contains(g.header, "Transfer-Encoding") {
			t.Errorf("the header is %q", g.header)
		}
		g.expect(v.publish("a", "1"))
		s := <-v.refused
		s.End()
		g.expect("id: evstream.end\nevent: end\ndata: \n\n")
		if _, err := g.in.ReadByte(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		v.ended(s, ReasonEnded)
	})
	t.Run("a connection goes on after a stream", func(t *testing.T) {
		g := v.dial()
		for range 3 {
			g.ask("/a?serve", "")
			response, err := http.ReadResponse(g.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := <-v.refused
			s.End()
			body, err := io.ReadAll(response.Body)
			if err != nil || !strings.HasSuffix(string(body), "id: evstream.end\nevent: end\ndata: \n\n") || response.Close {
				t.Errorf("%q, %v; the connection closes: %v", body, err, response.Close)
			}
			v.ended(s, ReasonEnded)
		}
		g.ask("/a", "") // and a stream after them may be detached
		g.greeted()
		v.latest().End()
	})
	refuses := func(name string, w http.ResponseWriter, r *http.Request, conn net.Conn) {
		t.Run(name, func(t *testing.T) {
			s, err := v.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(ReasonClient)
			if detached, err := s.Detach(w, r, conn); detached || err != nil || len(w.Header()) > 0 {
				t.Errorf("%v, %v, %v", detached, err, w.Header())
			}
		})
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	two := r.Clone(r.Context())
	two.ProtoMajor, two.ProtoMinor = 2, 0
	plain, other := net.Pipe()
	defer plain.Close()
	defer other.Close()
	w := hijackable{httptest.NewRecorder()}
	refuses("no connection", w, r, nil)
	refuses("another kind of connection", w, r, plain)
	refuses("a writer that cannot", httptest.NewRecorder(), r, new(net.TCPConn))
	refuses("HTTP/2", w, two, new(net.TCPConn))
}

// hijackable is a writer whose connection must not be taken.
type hijackable struct{ *httptest.ResponseRecorder }

// Hijack implements http.Hijacker.
func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic("it was hijacked") }

// An owner that is mistaken about the connection loses the stream, and leaves
// nobody with half of one.
func TestAConnectionThatIsNotTheRequestsIsNotTaken(t *testing.T) {
	v := newTCPSite(t, Options{})
	g := v.dial()
	g.ask("/a?mistaken", "")
	g.greeted()
	if rest, err := io.ReadAll(g.in); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	v.ended(v.latest(), ReasonError)
}

// barren is a poller for whose lines there are no file descriptors left.
type noDescriptors struct{ poller }

func (noDescriptors) open(*net.TCPConn) (rawConn, error) { return nil, syscall.EMFILE }

func TestAStreamForWhichThereIsNoDescriptorIsServed(t *testing.T) {
	v := newTCPSite(t, Options{})
	if !v.server.writers.startPoller() {
		t.Fatal("the poller does not start")
	}
	v.server.writers.poller = noDescriptors{v.server.writers.poller}
	g := v.dial()
	g.ask("/a", "")
	response, err := http.ReadResponse(g.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := <-v.refused
	v.publish("a", "1")
	s.End()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(body), "data: 1\n\nid: evstream.end\nevent: end\ndata: \n\n") {
		t.Errorf("%q, %v", body, err)
	}
	v.ended(s, ReasonEnded)
}

// adamant is a writer whose connection cannot be taken after all.
type noHijack struct{ *httptest.ResponseRecorder }

// Hijack implements http.Hijacker.
func (noHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// broken is a writer that gives the request up.
type broken struct{ hijackable }

func (broken) WriteHeader(int) { panic(http.ErrAbortHandler) }

func TestAConnectionThatCannotBeTakenIsLeftAsItIs(t *testing.T) {
	v := newTCPSite(t, Options{})
	if !v.server.writers.startPoller() {
		t.Fatal("the poller does not start")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, tt := range map[string]struct {
		w     http.ResponseWriter
		ended bool
		want  error
	}{
		"the stream has ended": {hijackable{httptest.NewRecorder()}, true, ErrServed},
		"the writer panics":    {broken{hijackable{httptest.NewRecorder()}}, false, nil},
		"the server refuses":   {noHijack{httptest.NewRecorder()}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			peer, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			s, err := v.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
			if err != nil {
				t.Fatal(err)
			}
			if tt.ended {
				s.Close(ReasonShutdown)
			}
			if _, err := io.WriteString(peer, "next"); err != nil {
				t.Fatal(err)
			}
			before := openFiles(t)
			func() {
				defer func() {
					if p := recover(); p != nil && p != http.ErrAbortHandler {
						panic(p)
					}
				}()
				if _, err := s.Detach(tt.w, httptest.NewRequest(http.MethodGet, "/", nil), conn); err != tt.want {
					t.Errorf("detaching: %v, want %v", err, tt.want)
				}
			}()
			<-s.Done()
			if n := openFiles(t); n != before {
				t.Errorf("%d file descriptors are open, %d were before", n, before)
			}
			got := make([]byte, 4)
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "next" {
				t.Errorf("then the server reads %q, %v", got, err)
			}
		})
	}
}
