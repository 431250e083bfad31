package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"
)

// crowded is a site that ends a stalled write after 5 s, with 256 KiB for all
// histories.
const (
	crowdedHistory = 256 << 10
	crowdedGlobal  = "evstream {\nmax_history 256KiB\nhistory unlimited\n}\n"
	crowdedSite    = `
	evstream /live/* {
		allow anyone subscribe,publish **
		write_timeout 5s
	}
`
)

func TestFiftyOfAThousandThatStopReadingHoldUpNobody(t *testing.T) {
	s := start(t, config(crowdedGlobal, crowdedSite))
	const all, stalled = 1000, 50
	streams := crowd(t, s, all-stalled, "/live/a", plainH1, attachedH1, attachedH1, plainH1, tlsH2)
	for i := range stalled {
		stallH1(t, []string{s.plain, s.attached}[i%2], "/live/a")
	}
	ended := []<-chan struct{}{stallH2(t, s, "/live/a")}
	stallH3(t, s, "/live/a")
	outrun(t, s, streams, stalled+2, 500, ended)
}

// outrun publishes, at least so many events, until all streams that stalled have ended, which
// tells some of their clients, and checks that the others get each event.
func outrun(t *testing.T, s *server, streams []*witness, stalled, events int, ended []<-chan struct{}) {
	t.Helper()
	eventually(t, "all streams are counted", func() bool {
		return s.metric(`evstream_connections{broker="default"}`) == len(streams)+stalled
	})

	// The memory of stalled streams does not grow with what they miss: with a queue
	// for each it would be 50 times what is published.
	const size = 1 << 10
	data := strings.Repeat("x", size)
	p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	before, most := 0, 0
	const batch = 20
	for begun := time.Now(); p.last < events || s.disconnects("slow") < stalled; {
		if time.Since(begun) > 2*patience {
			t.Fatalf("after %d events, %d streams ended because they were slow", p.last, s.disconnects("slow"))
		}
		events := make([]string, batch)
		for i := range events {
			events[i] = fmt.Sprintf(`{"channel":"a","data":"%d\n%s"}`, p.last+i+1, data)
		}
		if err := p.post("_publish", "["+strings.Join(events, ",")+"]"); err != nil {
			t.Fatal(err)
		}
		p.last += batch
		// The readers stay within the history.
		eventually(t, "the others keep up", func() bool {
			allAlive(t, streams)
			return slowest(streams) >= p.last-3*batch
		})
		switch {
		case p.last == batch:
			before = s.heap() // with the buffers of all connections
		case p.last%100 == 0:
			most = max(most, s.heap())
		}
	}
	eventually(t, "the others have everything", func() bool {
		allAlive(t, streams)
		return slowest(streams) == p.last
	})
	// A write in progress holds its segment of the history, 64 KiB, even after that
	// was trimmed: each stalled stream may hold another one. The rest is for the
	// buffers of the connections.
	slack := stalled*64<<10 + len(streams)<<10
	if grown := most - before; grown > crowdedHistory+slack {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if n := s.disconnects("slow"); n != stalled {
		t.Errorf("%d streams ended because they were slow, not %d", n, stalled)
	}
	if n := s.metric(`evstream_connections{broker="default"}`); n != len(streams) {
		t.Errorf("%d streams are left", n)
	}
	for _, ended := range ended {
		eventually(t, "the client is told", func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		})
	}
	t.Logf("%d events; the heap was %d KiB, and at most %d KiB", p.last, before>>10, most>>10)
}

// heap is how many bytes the process has in use after a collection.
func (s *server) heap() int {
	s.t.Helper()
	for line := range strings.Lines(get(s.t, "http://"+s.admin+"/debug/pprof/heap?debug=1&gc=1")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "# HeapAlloc = "); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatal("the heap is not told")
	return 0
}

// stallH1 opens a stream, reads its opening event, and then nothing more.
func stallH1(t *testing.T, address, path string) {
	t.Helper()
	conn := dialSmall(t, address)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, address); err != nil {
		t.Fatal(err)
	}
	awaitOpening(t, conn)
}

// dialSmall opens a connection whose segments and whose window are small, so that the kernel
// buffers little for it.
func dialSmall(t *testing.T, address string) net.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536),
			)
		}), err)
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// awaitOpening reads up to the opening event.
func awaitOpening(t *testing.T, r io.Reader) {
	t.Helper()
	for lines := bufio.NewReaderSize(r, 16); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "evstream.open") {
			return
		}
	}
}

// stallH3 opens a stream with a small window, reads its opening event, and then
// nothing more.
func stallH3(t *testing.T, s *server, path string) {
	t.Helper()
	transport := &http3.Transport{
		TLSClientConfig: insecure.Clone(),
		QUICConfig:      &quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10},
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = transport.Close()
	})
	r, err := connect(ctx, &http.Client{Transport: transport}, "https://"+s.tls+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.response.Body.Close() })
	awaitOpening(t, r.response.Body)
}
