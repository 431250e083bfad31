package takeover

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// recorderOn is a recorder and what it logs.
func recorderOn(t *testing.T, c RecordConfig) (rec *Recorder, logged *bytes.Buffer) {
	t.Helper()
	_, streams := hubOn(t, broker.NewMemory())
	logged = new(bytes.Buffer)
	return NewRecorder(streams, c, slog.New(slog.NewTextHandler(logged, nil))), logged
}

// answered is what a client gets of an answer of an application behind a recorder.
func answered(t *testing.T, rec *Recorder, path, media, body string) string {
	t.Helper()
	w := httptest.NewRecorder()
	err := rec.Serve(w, httptest.NewRequest(http.MethodPost, path, nil), "a", func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", media)
		_, err := io.WriteString(w, body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.Body.String()
}

// An answer that is no event stream passes, and the log says so once.
func TestAnAnswerThatIsNoStreamIsWarnedOfOnce(t *testing.T) {
	rec, logged := recorderOn(t, RecordConfig{})
	for _, path := range []string{"/1", "/2", "/3"} {
		if got := answered(t, rec, path, "text/plain", path); got != path {
			t.Errorf("the client got %q", got)
		}
	}
	if n := strings.Count(logged.String(), "it is no text/event-stream"); n != 1 || !strings.Contains(logged.String(), "content_type=text/plain") || !strings.Contains(logged.String(), "channel=a") {
		t.Errorf("it is said %d times: %s", n, logged)
	}
}

// An answer is kept for as long as it is to be, and then nothing is left of it.
func TestAnAnswerIsForgottenAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec, _ := recorderOn(t, RecordConfig{Keep: 10 * time.Minute})
		if got := answered(t, rec, "/1", "text/event-stream", "data: 1\n\n"); got != "data: 1\n\n" {
			t.Fatalf("the client got %q", got)
		}
		time.Sleep(9 * time.Minute)
		if run := rec.hub.Runs().Get("a"); run == nil || run.State != runs.Done {
			t.Fatalf("the run is %+v", run)
		}
		time.Sleep(2 * time.Minute)
		w := httptest.NewRecorder()
		if err := rec.Resume(w, httptest.NewRequest(http.MethodGet, "/", nil), "a"); err != nil || w.Code != http.StatusNoContent || rec.hub.Runs().Get("a") != nil {
			t.Errorf("who comes later gets %d %q, %v", w.Code, w.Body, err)
		}
	})
}
