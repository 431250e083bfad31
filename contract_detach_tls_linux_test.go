package evstream

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
)

// useHTTP1 has the tests' client speak HTTP/1.1 over TLS of one version, and resume TLS
// sessions.
func useHTTP1(t *testing.T, version uint16) {
	t.Helper()
	useTransport(t, &http.Transport{
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, ServerName: "localhost", MinVersion: version, MaxVersion: version,
			NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
	})
}

// TestStreamsAreDetachedOverHTTP1AndTLS has streams taken from Caddy's server, up to the
// end of each kind.
func TestStreamsAreDetachedOverHTTP1AndTLS(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.3": tls.VersionTLS13, "TLS 1.2": tls.VersionTLS12} {
		t.Run(name, func(t *testing.T) {
			useHTTP1(t, version)
			_, port, _ := strings.Cut(freeAddress(t), ":")
			site := func(delivery string) string {
				return overTLS(port, "", "\t\tallow anyone all **\n\t\tdelivery "+delivery)
			}
			load(t, site("auto"))
			url := "https://localhost:" + port + "/live/a"
			awaitTLS(t, url, 1)
			served := func(detached bool) int { return servedOver(t, 1, detached) }
			streams := []*caddyStream{subscribe(t, url), subscribe(t, url), subscribe(t, url)}
			eventually(t, "three detached streams", func() bool { return served(true) == 3 && served(false) == 0 })
			resp, err := client.Get(url + "?info") // over a connection of its own, with a ticket
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.TLS.Version != version {
				t.Errorf("the version of TLS is %#x", resp.TLS.Version)
			}
			if !resp.TLS.DidResume {
				t.Error("the TLS session is not resumed")
			}
			large := strings.Repeat("y", 100<<10)
			mustPublish(t, url, "1")
			mustPublish(t, url, large, func(r *http.Request) { r.Header.Set("Idempotency-Key", "large") })
			for _, s := range streams {
				s.expect("1")
				s.expect(large)
			}
			// A client that leaves is noticed, and streams live on when Caddy is reloaded.
			streams[0].cancel()
			eventually(t, "the end of the stream", func() bool { return served(true) == 2 })
			if err := reload(t, site("attached")); err != nil {
				t.Fatal(err)
			}
			mustPublish(t, url, "2")
			streams[1].expect("2")
			streams[2].expect("2")
			attached := subscribe(t, url)
			eventually(t, "an attached stream", func() bool { return served(false) == 1 })
			attached.cancel()
			// Both end in good order.
			for _, s := range theHub(t, "default").Sessions() {
				s.Stream.End()
			}
			for _, s := range streams[1:] {
				if e, err := s.events.Next(); err != nil || e.Type != "end" {
					t.Errorf("at the end: %+v, %v", e, err)
				}
				if _, err := s.events.Next(); err != io.EOF {
					t.Errorf("after the end: %v", err)
				}
			}
		})
	}
}
