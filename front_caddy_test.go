package evstream

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestStreamsAreDetachedOverHTTP2 has streams taken from Caddy's server while the other
// requests of their connection go on, up to the end of each kind.
func TestStreamsAreDetachedOverHTTP2(t *testing.T) {
	connections := useTLS(t)
	_, port, _ := strings.Cut(freeAddress(t), ":")
	load(t, overTLS(port, "", "\t\tallow anyone all **", fmt.Sprintf("\trespond /large \"%s\"", strings.Repeat("large", 100_000))))
	base := "https://localhost:" + port
	url := base + "/live/a"
	awaitTLS(t, url, 2)
	before := connections()
	served := func(detached bool) int { return servedOver(t, 2, detached) }
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
