package takeover

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

// An answer that is stopped just before it begins is an error that says so: not an answer
// that has begun and has nothing in it, whatever the proxy does that was cut off.
func TestAnAnswerThatIsStoppedJustBeforeItBeginsIsRefused(t *testing.T) {
	h, streams := hubOn(t, broker.NewMemory())
	rec := NewRecorder(streams, RecordConfig{}, slog.New(slog.DiscardHandler))
	for name, then := range map[string]func(w http.ResponseWriter) error{
		"a proxy that copies": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"a proxy that answers itself": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusBadGateway)
			_, err := w.Write([]byte("x"))
			return err
		},
		"an error": func(http.ResponseWriter) error { return io.ErrUnexpectedEOF },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = rec.Serve(w, r, "a", func(w http.ResponseWriter, r *http.Request) error {
					run := h.Runs().Get("a")
					go func() { _ = h.StopRun(t.Context(), run, "stopped") }()
					<-r.Context().Done()
					w.Header().Set("Content-Type", "text/event-stream")
					return then(w)
				})
			}))
			defer server.Close()
			resp, err := http.Post(server.URL, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != problem.Conflict.Status() || err != nil || !strings.Contains(string(body), "the answer was stopped before it began") {
				t.Errorf("%d %s, %v", resp.StatusCode, body, err)
			}
		})
	}
}
