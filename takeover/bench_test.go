package takeover

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
)

// discarding is a client that takes what it gets.
type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header            { return d.header }
func (*discarding) WriteHeader(int)                  {}
func (*discarding) Write(p []byte) (int, error)      { return len(p), nil }
func (*discarding) FlushError() error                { return nil }
func (*discarding) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkAnAnswer is what an answer of one event costs from its request to its end, as it
// is and recorded, while so many are kept.
func BenchmarkAnAnswer(b *testing.B) {
	answer := func(w http.ResponseWriter, r *http.Request) error {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		_, err := io.WriteString(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush()
		return err
	}
	one := func(b *testing.B, serve func(w http.ResponseWriter, r *http.Request) error) {
		b.Helper()
		r := httptest.NewRequest(http.MethodPost, "/a", strings.NewReader("{}"))
		if err := serve(&discarding{make(http.Header)}, r); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			one(b, answer)
		}
	})
	for _, kept := range []int{0, 9000} {
		b.Run(fmt.Sprintf("recorded/kept=%d", kept), func(b *testing.B) {
			h, err := hub.Open(broker.NewMemory(), hub.Config{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			streams, err := httpapi.New(h, httpapi.Config{Access: access.AllowAll(), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			rec := NewRecorder(streams, RecordConfig{}, slog.New(slog.DiscardHandler))
			n := 0
			record := func(w http.ResponseWriter, r *http.Request) error {
				n++
				return rec.Serve(w, r, fmt.Sprint("answers/", n%max(kept, 1)), answer)
			}
			for range kept {
				one(b, record)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				r := httptest.NewRequest(http.MethodPost, fmt.Sprint("/", i), strings.NewReader("{}"))
				if err := record(&discarding{make(http.Header)}, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
