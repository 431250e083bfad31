package httpapi

import (
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/hub"
)

// endless is a body that could fill any memory, and tells whether it was read.
type endless struct{ read atomic.Bool }

func (b *endless) Read(p []byte) (int, error) {
	b.read.Store(true)
	return len(p), nil
}

func (b *endless) Close() error { return nil }

func TestACompressedBodyIsRefusedUnread(t *testing.T) {
	e := newTestHandler(t)
	for _, coding := range []string{"gzip", "x-gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip"} {
		for _, path := range []string{"/live/a", "/live/_publish"} {
			for _, media := range []string{"text/plain", "application/x-ndjson", "text/event-stream"} {
				body := new(endless)
				r := asBackend("POST", path, "", "Content-Encoding: "+coding, "Content-Type: "+media).build()
				r.Body, r.ContentLength = body, -1
				resp := serve(t, e, r)
				wantProblem(t, resp, 415, "bad-media")
				if body.read.Load() {
					t.Errorf("%s, %s: the body was read", coding, media)
				}
			}
		}
	}
}

// A bearer that is called like an address has a rate of its own.
func TestABearerThatIsCalledLikeAnAddressIsApart(t *testing.T) {
	e := newTestHandler(t, func(c *testConfig) { c.hub.PublishRate = hub.Rate{PerSecond: 0.001, Burst: 1} })
	for _, who := range []*access.Caller{{Name: "192.0.2.1"}, access.AnonymousCaller()} {
		by, err := e.author(request{method: "POST", path: "/live/x"}.build(), who) // from 192.0.2.1
		if err != nil {
			t.Fatal(err)
		}
		if err := e.hub.MayPublish(by.publisher, 1, 0); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}
