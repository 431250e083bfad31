package evstream

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/boltadapter"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter"
)

// lineByLine is a body of which each read has one line, as if no other had arrived.
type lineByLine struct{ rest string }

func (l *lineByLine) Read(p []byte) (int, error) {
	if l.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, l.rest[:strings.IndexByte(l.rest, '\n')+1])
	l.rest = l.rest[n:]
	return n, nil
}

// BenchmarkLinesOfABody publishes bodies of 10,000 lines: "alone", where each line is
// appended by itself, is what "together" is compared with.
func BenchmarkLinesOfABody(b *testing.B) {
	logs := map[string]func(*testing.B) (broker.Log, error){
		"memory": func(*testing.B) (broker.Log, error) { return broker.NewMemory(), nil },
		"bolt": func(b *testing.B) (broker.Log, error) {
			return boltadapter.Open(boltadapter.DefaultConfig(filepath.Join(b.TempDir(), "log")))
		},
		"redis": func(b *testing.B) (broker.Log, error) {
			c, err := redisadapter.ParseURL("redis://" + redistest.Start(b).Addr() + "/0")
			if err != nil {
				return nil, err
			}
			c.Prefix = "bench"
			return redisadapter.Open(c, slog.New(slog.DiscardHandler))
		},
	}
	lines := 10_000
	if testing.Short() { // that it runs is enough
		lines = 300
	}
	var body strings.Builder
	for i := range lines {
		fmt.Fprintf(&body, `{"channel":"c/%d","data":%q}`+"\n", i%100, strings.Repeat("x", 60))
	}
	for _, name := range []string{"memory", "bolt", "redis"} {
		b.Run(name, func(b *testing.B) {
			handler := publishTo(b, logs[name])
			for _, arrives := range []struct {
				name string
				body func() io.Reader
			}{
				{"alone", func() io.Reader { return &lineByLine{body.String()} }},
				{"together", func() io.Reader { return strings.NewReader(body.String()) }},
			} {
				b.Run(arrives.name, func(b *testing.B) {
					for b.Loop() {
						r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/live/_publish", io.NopCloser(arrives.body()))
						r.Header.Set("Content-Type", "application/x-ndjson")
						w := httptest.NewRecorder()
						if handler.ServeHTTP(w, r); w.Code != http.StatusOK {
							b.Fatal(w.Code, w.Body)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lines), "ns/line")
				})
			}
		})
	}
}

// publishTo serves a hub over a log, to which anyone may publish.
func publishTo(b *testing.B, open func(*testing.B) (broker.Log, error)) http.Handler {
	b.Helper()
	log, err := open(b)
	if err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.Open(log, hub.Config{Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := h.Close(); err != nil {
			b.Error(err)
		}
	})
	rules := []access.Rule{{Who: access.Anyone, Do: []string{access.Publish}, Channels: []string{"**"}}}
	policy, err := access.NewPolicy(rules, nil, false)
	if err != nil {
		b.Fatal(err)
	}
	handler, err := httpapi.New(h, httpapi.Config{
		Mount: "/live", Logger: quiet, Access: policy,
		Streams: httpapi.Streams{Heartbeat: time.Minute, RetryMin: 2 * time.Second, RetryMax: 2 * time.Second},
	})
	if err != nil {
		b.Fatal(err)
	}
	waitLoaded(b, h)
	return handler
}

// waitLoaded waits until a hub takes events.
func waitLoaded(b *testing.B, h *hub.Hub) {
	b.Helper()
	for h.Broker().Loaded() != nil {
		select {
		case <-b.Context().Done():
			b.Fatal("the log is not loaded")
		case <-time.After(time.Millisecond):
		}
	}
}
