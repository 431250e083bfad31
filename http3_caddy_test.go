package evstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/quic-go/quic-go/http3"
)

// TestStreamsOverHTTP3 has streams of one connection over HTTP/3 go through reloads, a
// client that leaves, an end and the end of Caddy, with both deliveries; the access log and the
// figures tell of them alike.
func TestStreamsOverHTTP3(t *testing.T) {
	for _, delivery := range []string{"attached", "auto"} {
		t.Run(delivery, func(t *testing.T) { overHTTP3(t, delivery) })
	}
}

func overHTTP3(t *testing.T, delivery string) {
	_, port, _ := strings.Cut(freeAddress(t), ":")
	logs := logDir{t, t.TempDir()}
	config := func(n int) string {
		return fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period 30s
	evstream {
		max_channels %d
	}
	servers {
		protocols h1 h3
	}
}
https://localhost:%s {
	tls internal
	bind 127.0.0.1
	log {
		%s
	}
	evstream /live/* {
		allow anyone all **
		drain 100ms
		delivery %s
	}
}
`, n, port, logs.output("access"), delivery)
	}
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}
	t.Cleanup(func() { _ = transport.Close() })
	useTransport(t, transport)
	load(t, config(1))
	url := "https://localhost:" + port + "/live/a"
	awaitTLS(t, url, 3)
	streams := make([]*caddyStream, 5)
	for i := range streams {
		streams[i] = subscribe(t, url)
	}
	served := func() int { return servedOver(t, 3, delivery == "auto") }
	eventually(t, "all streams to be "+delivery, func() bool { return served() == len(streams) })
	large := strings.Repeat("x", 20_000) // more than is queued of a stream, and all fit into the window of the connection
	const reloads = 3
	for i := range reloads {
		if err := reload(t, config(i+2)); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, url, fmt.Sprint(i)+large, func(r *http.Request) { r.Header.Set("Idempotency-Key", fmt.Sprint(i)) })
	}
	for _, s := range streams {
		for i := range reloads {
			s.expect(fmt.Sprint(i) + large)
		}
	}
	// A client that leaves is noticed, and a stream that ends for good ends in good order.
	streams[0].cancel()
	eventually(t, "the end of a stream", func() bool { return served() == len(streams)-1 })
	for _, s := range theHub(t, "default").Sessions() {
		s.Stream.End()
		break
	}
	eventually(t, "the end of a stream", func() bool { return served() == len(streams)-2 })
	done := make(chan error, 1)
	go func() { done <- caddy.Stop() }()
	ended := 0
	for _, s := range streams[1:] {
		for {
			e, err := s.events.Next()
			if err == nil {
				if e.Type == "end" {
					ended++
				}
				continue
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("a stream ends with %v", err)
			}
			break
		}
	}
	if ended != 1 {
		t.Errorf("%d streams were told the end, not 1", ended)
	}
	_ = transport.Close() // the server waits for its connections
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Caddy has not stopped in time")
	}
	told := map[string]int{}
	for _, line := range logs.lines(http.MethodGet) {
		if !strings.HasSuffix(uri(line), "/live/a") {
			continue
		}
		if line["status"] != 200.0 || line["size"].(float64) < 60_000 || line["evstream_events"] != 3.0 || line["request"].(map[string]any)["proto"] != "HTTP/3.0" {
			t.Errorf("a stream is logged as %v", line)
		}
		told[line["evstream_reason"].(string)]++
	}
	if want := map[string]int{"client": 1, "ended": 1, "reload": 3}; fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("the access log has %v, want %v", told, want)
	}
}
