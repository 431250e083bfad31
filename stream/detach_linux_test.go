package stream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestWhatCannotBeDetachedIsServed(t *testing.T) {
	site := newTCPSite(t, Options{})
	t.Run("HTTP/1.0", func(t *testing.T) {
		client := site.dial()
		if _, err := io.WriteString(client.conn, "GET /a HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		client.readOpening()
		if !strings.HasPrefix(client.header, "HTTP/1.0 200 OK\r\n") || strings.Contains(client.header, "Transfer-Encoding") {
			t.Errorf("the header is %q", client.header)
		}
		client.expect(site.publish("a", "1"))
		s := <-site.refused
		s.End()
		client.expect("id: evstream.end\nevent: end\ndata: {}\n\n")
		client.expectEnd()
		site.ended(s, ReasonEnded)
	})
	t.Run("a connection goes on after a stream", func(t *testing.T) {
		client := site.dial()
		for range 3 {
			client.ask("/a?serve", "")
			response, err := http.ReadResponse(client.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := <-site.refused
			s.End()
			body, err := io.ReadAll(response.Body)
			if err != nil || !strings.HasSuffix(string(body), "id: evstream.end\nevent: end\ndata: {}\n\n") || response.Close {
				t.Errorf("%q, %v; the connection closes: %v", body, err, response.Close)
			}
			site.ended(s, ReasonEnded)
		}
		client.ask("/a", "") // and a stream after them may be detached
		client.readOpening()
		site.latest().End()
	})
	refuses := func(name string, w http.ResponseWriter, r *http.Request, conn net.Conn) {
		t.Run(name, func(t *testing.T) {
			if _, fits := w.(hijackable); site.server.WillDetach(r, conn) == fits {
				t.Errorf("before, it is not known that it cannot be detached, or that only its writer cannot: %v", !fits)
			}
			s, err := site.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
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

// If conn is not the connection of the request the stream ends, and the client's
// connection is closed.
func TestAConnectionThatIsNotTheRequestsIsNotTaken(t *testing.T) {
	site := newTCPSite(t, Options{})
	client := site.dial()
	client.ask("/a?mistaken", "")
	client.readOpening()
	if rest, err := io.ReadAll(client.body); err != io.ErrUnexpectedEOF || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	site.ended(site.latest(), ReasonError)
}

// noDescriptors is a poller that has no file descriptors left.
type noDescriptors struct{ poller }

func (noDescriptors) open(*net.TCPConn) (rawConn, error) { return nil, syscall.EMFILE }

func TestAStreamForWhichThereIsNoDescriptorIsServed(t *testing.T) {
	site := newTCPSite(t, Options{})
	if !site.server.writers.startPoller() {
		t.Fatal("the poller does not start")
	}
	site.server.writers.poller = noDescriptors{site.server.writers.poller}
	client := site.dial()
	client.ask("/a", "")
	response, err := http.ReadResponse(client.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := <-site.refused
	site.publish("a", "1")
	s.End()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(body), "data: 1\n\nid: evstream.end\nevent: end\ndata: {}\n\n") {
		t.Errorf("%q, %v", body, err)
	}
	site.ended(s, ReasonEnded)
}

// noHijack is a writer whose Hijack fails.
type noHijack struct{ *httptest.ResponseRecorder }

// Hijack implements http.Hijacker.
func (noHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// broken is a writer that aborts the request by a panic.
type broken struct{ hijackable }

func (broken) WriteHeader(int) { panic(http.ErrAbortHandler) }

func TestAConnectionThatCannotBeTakenIsLeftAsItIs(t *testing.T) {
	site := newTCPSite(t, Options{})
	if !site.server.writers.startPoller() {
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
			s, err := site.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
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
