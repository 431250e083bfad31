package takeover

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// late is a log that closes channels when it is let.
type late struct {
	broker.Log
	let chan struct{}
}

func (l *late) Append(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if ops[len(ops)-1].Kind == broker.KindClose {
		<-l.let
	}
	return l.Log.Append(ctx, ops)
}

// Who has been told that an answer is over asks the application the next question, and does
// not get the old answer once more, however late the log has its end.
func TestWhoKnowsThatAnAnswerIsOverMayAskTheNext(t *testing.T) {
	log := &late{broker.NewMemory(), make(chan struct{})}
	h, streams := hubOn(t, log)
	rec := NewRecorder(streams, RecordConfig{}, slog.New(slog.DiscardHandler))
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/second" {
			defer close(asked)
		}
		err := rec.Serve(w, r, "a", func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+r.URL.Path+"\n\n")
			_ = http.NewResponseController(w).Flush()
			if r.URL.Path == "/first" {
				<-r.Context().Done()
				return r.Context().Err()
			}
			return nil
		})
		if err != nil && r.URL.Path == "/second" {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	first, err := http.Post(server.URL+"/first", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	reads := func(text string) {
		got := make([]byte, len(text))
		if n, err := io.ReadFull(first.Body, got); string(got[:n]) != text {
			t.Fatalf("got %q, %v", got[:n], err)
		}
	}
	reads("data: /first\n\n")
	go func() { _ = h.StopRun(context.Background(), h.Runs().Get("a"), "stopped") }()
	reads("event: stopped\n")
	if run := h.Runs().Get("a"); run.State != runs.Active || !rec.isOver(run) {
		t.Errorf("the run is %s, and over: %v", run.State, rec.isOver(run))
	}
	time.AfterFunc(10*time.Millisecond, func() { close(log.let) }) // the second is to be there by then, and need not
	second, err := http.Post(server.URL+"/second", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Body.Close()
	if got, err := io.ReadAll(second.Body); string(got) != "data: /second\n\n" {
		t.Errorf("the second question is answered %q, %v", got, err)
	}
	<-asked
}
