package evstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/runs"
)

// An answer that is no stream does not wait for the log to hear that there is nothing to
// record: it is there, to its end, while Redis stands still.
func TestAnAnswerThatIsNotRecordedDoesNotWaitForRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Stall") != "" {
			server.Pause()
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	recordProcess(t, address, app.URL, "\tevstream {\n"+sharedBy(server.Addr(), "")+"\t}\n")
	url := "http://" + address + "/api/chat/7"
	if status, body := post(t, url, "{}"); status != http.StatusOK || body != "{}" {
		t.Fatalf("the first answer: %d %s", status, body)
	}
	resp := get(t, url, header("X-Stall", "1"), func(r *http.Request) { r.Method = http.MethodPost })
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || string(body) != "{}" || err != nil {
		t.Errorf("%d %s, %v", resp.StatusCode, body, err)
	}
	server.Resume()
	eventually(t, "the next answer", func() bool {
		status, body := post(t, url, "{}")
		return status == http.StatusOK && body == "{}"
	})
}

// The length of an answer is not that of what the application says: who has read its end may
// ask for the next one, and the answer may get a last event of the hub.
func TestARecordedAnswerHasNoLength(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Length", "11")
		_, _ = io.WriteString(w, "data: one\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, recordSite(address, app.URL, ""))
	url := "http://" + address + "/api/chat/7"
	resp := prompt(t, url, "{}")
	if got := rest(t, resp.Body); got != "data: one\n\n" || resp.ContentLength != -1 {
		t.Errorf("%q, of %d bytes", got, resp.ContentLength)
	}
	if state := recordedState(t, "chat/7"); state != runs.Done {
		t.Errorf("it is %q when its end is read", state)
	}
}
