package evstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/runs"
)

// A reader that is cut off, because it is far behind, hears of it at once.
func TestASlowFirstReaderIsCutWhileTheAnswerGoesOn(t *testing.T) {
	more := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 700 {
			fmt.Fprintf(w, "data: %s\n\n", strings.Repeat("x", 10<<10))
			_ = http.NewResponseController(w).Flush()
		}
		close(more)
		<-r.Context().Done()
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, recordSite(address, app.URL, "largest 16MiB"))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(128 << 10) // so that little is on the way
	fmt.Fprintf(c, "POST /api/chat/7 HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\n\r\nx", address)
	<-more
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := io.Copy(io.Discard, c)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Errorf("it waits after %d bytes", n)
	}
	if state := recordedState(t, "chat/7"); state != runs.Active {
		t.Errorf("the run is %q", state)
	}
}

// Clients such as Java's offer HTTP/2 with each request, which is no other request.
func TestAnOfferOfHTTP2IsRecorded(t *testing.T) {
	m := newModel(t)
	close(m.tokens)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, ""))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /api/chat/7 HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nContent-Length: 1\r\n\r\nx", address)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	if state := recordedState(t, "chat/7"); state != runs.Done {
		t.Errorf("the run is %q", state)
	}
}
