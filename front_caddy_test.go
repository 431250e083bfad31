package evstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/hub"
)

// overTLS is a Caddyfile of a site with a certificate of Caddy's own.
func overTLS(port, global, block string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period 30s
%s
	servers {
		protocols h1 h2
	}
}
https://localhost:%s {
	tls internal
	bind 127.0.0.1
	evstream /live/* {
%s
	}
	respond /plain "plain"
	respond /large "%s"
}
`, global, port, block, strings.Repeat("large", 100_000))
}

// useTLS has the tests' client speak HTTP/2 over TLS, and returns how many connections it
// has opened.
func useTLS(t *testing.T) (connections func() int) {
	t.Helper()
	old := client
	dials := make(chan struct{}, 1000)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials <- struct{}{}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	client = &http.Client{Transport: transport}
	t.Cleanup(func() { client = old; transport.CloseIdleConnections() })
	return func() int { return len(dials) }
}

// awaitTLS waits until the site has its certificate.
func awaitTLS(t *testing.T, url string) {
	t.Helper()
	eventually(t, "the certificate", func() bool {
		resp, err := client.Get(url + "?info")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.ProtoMajor == 2
	})
}

// TestStreamsAreDetachedOverHTTP2 has streams taken from Caddy's server while the other
// requests of their connection go on, up to the end of each kind.
func TestStreamsAreDetachedOverHTTP2(t *testing.T) {
	connections := useTLS(t)
	_, port, _ := strings.Cut(freeAddress(t), ":")
	load(t, overTLS(port, "", "\t\tallow anyone all **\n\t\tdelivery detached"))
	base := "https://localhost:" + port
	url := base + "/live/a"
	awaitTLS(t, url)
	before := connections()
	served := func(detached bool) int {
		return theHub(t, "default").Stats().Serving[hub.Serving{Protocol: 2, Detached: detached}]
	}
	streams := make([]*caddyStream, 10)
	for i := range streams {
		streams[i] = subscribe(t, url)
	}
	eventually(t, "eight detached and two attached streams", func() bool { return served(true) == 8 && served(false) == 2 })
	get := func(path string) string {
		t.Helper()
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	large := strings.Repeat("y", 100<<10) // more than a frame, and than a window by default
	for i := range 20 {
		mustPublish(t, url, fmt.Sprint(i))
		if got := get("/plain"); got != "plain" {
			t.Fatalf("read %q", got)
		}
	}
	mustPublish(t, url, large, func(r *http.Request) { r.Header.Set("Idempotency-Key", "large") })
	if got := get("/large"); got != strings.Repeat("large", 100_000) {
		t.Fatalf("read %d bytes", len(got))
	}
	for _, s := range streams {
		for i := range 20 {
			s.expect(fmt.Sprint(i))
		}
		s.expect(large)
	}
	if n := connections() - before; n != 0 {
		t.Fatalf("%d connections more were opened", n)
	}
	// A client that leaves is noticed, and its place is free.
	streams[0].cancel()
	eventually(t, "the end of the stream", func() bool { return served(true) == 7 })
	again := subscribe(t, url)
	eventually(t, "the stream in its place to be detached", func() bool { return served(true) == 8 })
	// A stream that ends for good ends in good order, and so do all at an exit.
	var one string
	for _, s := range theHub(t, "default").Sessions() {
		if s.Stream.Detached() {
			one = s.Stream.ID()
			s.Stream.End()
			break
		}
	}
	if one == "" {
		t.Fatal("no session is detached")
	}
	eventually(t, "the end of the stream", func() bool { return served(true) == 7 })
	done := make(chan error, 1)
	go func() { done <- caddy.Stop() }()
	ended := 0
	for _, s := range append(streams[1:], again) {
		for {
			e, err := s.events.Next()
			if err == nil {
				if e.Type == "end" {
					ended++
				}
				continue
			}
			if err != io.EOF {
				t.Errorf("a stream ends with %v", err)
			}
			break
		}
	}
	if ended != 1 {
		t.Errorf("%d streams were told the end, not 1", ended)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Caddy has not stopped in time")
	}
}
