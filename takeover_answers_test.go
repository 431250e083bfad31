package evstream

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// answers is an application with one path for each way of answering.
func answers(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	handOver := func(w http.ResponseWriter) { w.Header().Set("Evstream-Channels", "a") }
	mux.HandleFunc("/app/stream", func(w http.ResponseWriter, _ *http.Request) { handOver(w); fmt.Fprint(w, "data: first\n\n") })
	mux.HandleFunc("/app/text", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Type", "text/plain")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("an answer as any other"))
	})
	mux.HandleFunc("/app/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": its own\n\ndata: x\r\n\r\n")
	})
	mux.HandleFunc("/app/refused", func(w http.ResponseWriter, _ *http.Request) { handOver(w); http.Error(w, "no", http.StatusForbidden) })
	mux.HandleFunc("/app/redirect", func(w http.ResponseWriter, r *http.Request) {
		handOver(w)
		http.Redirect(w, r, "/login", http.StatusFound)
	})
	mux.HandleFunc("/app/created", func(w http.ResponseWriter, _ *http.Request) { handOver(w); w.WriteHeader(http.StatusCreated) })
	mux.HandleFunc("/app/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Evstream-Channels, X-Sum")
		fmt.Fprint(w, "body")
		handOver(w)
		w.Header().Set("X-Sum", "1")
	})
	mux.HandleFunc("/app/hints", func(w http.ResponseWriter, _ *http.Request) {
		handOver(w)
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Evstream-Channels")
		fmt.Fprint(w, "body")
	})
	mux.HandleFunc("/app/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Asked", r.Header.Get("Accept-Encoding"))
		var body bytes.Buffer
		z := gzip.NewWriter(&body)
		fmt.Fprint(z, "data: x\n\n")
		_ = z.Close()
		handOver(w)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(body.Bytes())
	})
	mux.HandleFunc("/app/identity", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Accept-Encoding")) })
	mux.HandleFunc("/app/endless", func(w http.ResponseWriter, _ *http.Request) {
		handOver(w)
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/app/dies", func(w http.ResponseWriter, _ *http.Request) {
		handOver(w)
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "data: x\n\n")
	})
	mux.HandleFunc("/app/large", func(w http.ResponseWriter, _ *http.Request) {
		handOver(w)
		fmt.Fprintf(w, "data: %s\n\n", strings.Repeat("x", 200<<10))
		fmt.Fprint(w, strings.Repeat("data\n\n", 9000)) // which the hub writes longer
	})
	mux.HandleFunc("/app/echo", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nEvstream-Channels: a\r\n\r\n")
		_, _ = io.CopyN(conn, rw, 5)
	})
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	return app
}

// Every answer that is not handed over is what it would be without the handler.
func TestEveryOtherAnswerOfAnApplicationPassesByteForByte(t *testing.T) {
	app := answers(t)
	address := freeAddress(t)
	load(t, handoffSite(address, app.URL, "")+fmt.Sprintf("http://%s {\n\treverse_proxy %s\n}\n", strings.Replace(address, "127.0.0.1", "localhost", 1), strings.TrimPrefix(app.URL, "http://")))
	get := func(host, method, path string, change ...func(*http.Request)) string {
		resp, body, err := answerOf(t, method, "http://"+address+path, "", append(change, header("Host", host))...)
		if err != nil {
			t.Fatal(method, path, err)
		}
		resp.Header.Del("Date")
		return fmt.Sprintf("%d %v %v %d %q", resp.StatusCode, resp.Header, resp.Trailer, resp.ContentLength, body)
	}
	plain := strings.Replace(address, "127.0.0.1", "localhost", 1)
	for _, tt := range []struct {
		method, path string
		change       []func(*http.Request)
	}{
		{"GET", "/app/text", nil},
		{"HEAD", "/app/text", nil},
		{"PUT", "/app/text", nil},
		{"GET", "/app/text", []func(*http.Request){header("Range", "bytes=3-8")}},
		{"GET", "/app/text", []func(*http.Request){header("If-None-Match", `"1"`)}},
		{"GET", "/app/events", nil},
		{"POST", "/app/refused", nil},
		{"GET", "/app/created", nil},
		{"GET", "/app/trailers", nil},
		{"GET", "/app/hints", nil},
		{"GET", "/app/none", nil},
	} {
		if got, want := get(address, tt.method, tt.path, tt.change...), get(plain, tt.method, tt.path, tt.change...); got != want {
			t.Errorf("%s %s: %s\nwithout the handler: %s", tt.method, tt.path, got, want)
		}
	}
	// The client of redirects would follow it.
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/app/redirect", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Transport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/login" {
		t.Errorf("a redirect: %v, %v", resp, err)
	}
	resp.Body.Close()
	if got := get(address, "GET", "/app/identity", header("Accept-Encoding", "gzip, br")); !strings.Contains(got, `"identity"`) {
		t.Errorf("the application is asked for %s", got)
	}

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET /app/echo HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello", address)
	read := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(read, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("an upgrade: %v, %v", resp, err)
	}
	echoed := make([]byte, 5)
	if _, err := io.ReadFull(read, echoed); err != nil || string(echoed) != "hello" {
		t.Errorf("an upgraded connection echoes %q, %v", echoed, err)
	}
}

// What the application wanted to hand over and could not is 502, and the client does not
// learn why.
func TestWhatCannotBeHandedOverIsBadGateway(t *testing.T) {
	app := answers(t)
	address := freeAddress(t)
	load(t, handoffSite(address, app.URL, ""))
	for _, tt := range []struct{ method, path string }{
		{"GET", "/app/gzip"}, {"GET", "/app/endless"}, {"GET", "/app/dies"}, {"PUT", "/app/stream"},
	} {
		resp, body, err := answerOf(t, tt.method, "http://"+address+tt.path, "")
		if err != nil || resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "bad-answer") || strings.Contains(body, "gzip") || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s %s: %v, %v, %s", tt.method, tt.path, err, resp, body)
		}
	}
	resp, _, err := answerOf(t, "HEAD", "http://"+address+"/app/stream", "")
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Evstream-Channels") != "" {
		t.Errorf("HEAD: %v, %v", err, resp)
	}
	s := subscribe(t, "http://"+address+"/app/large")
	if got := s.next(); len(got) != 200<<10 {
		t.Errorf("the first event has %d bytes", len(got))
	}
	for range 9000 {
		s.expect("")
	}
	mustPublish(t, "http://"+address+"/live/a", "live")
	s.expect("live")
}

// An application may speak HTTP/1.0, and answer a POST whose body it has not read.
func TestOldAndHastyApplicationsHandOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n')
			fmt.Fprint(conn, "HTTP/1.0 200 OK\r\nEvstream-Channels: a\r\n\r\ndata: first\n\n")
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	address := freeAddress(t)
	load(t, handoffSite(address, "http://"+l.Addr().String(), ""))
	for _, size := range []int{0, 10, 100_000} {
		s := subscribe(t, "http://"+address+"/app/", func(r *http.Request) {
			r.Method = "POST"
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", size))), int64(size)
		})
		s.expect("first")
		mustPublish(t, "http://"+address+"/live/a", fmt.Sprint("after ", size))
		s.expect(fmt.Sprint("after ", size))
		s.cancel()
	}
	eventually(t, "the streams to leave", func() bool { return theHub(t, "default").Stats().Streams == 0 })
}

// Trailers of a request reach the application, but for those that are the hub's.
func TestTrailersOfARequestAreStripped(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer)
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, handoffSite(address, app.URL, ""))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /app/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nTrailer: Evstream-User, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nEvstream-User: ann\r\nX-Sum: 1\r\n\r\n", address)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "map[X-Sum:[1]]") {
		t.Errorf("%s, %v", answer, err)
	}
}
