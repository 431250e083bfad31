package evstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/runs"
)

// model is an application that answers with as many tokens as it is told to send.
type model struct {
	*httptest.Server
	asked, open atomic.Int32
	tokens      chan string // each is sent as an event; closed: the answer ends
	cut         atomic.Bool // instead of its end
}

func newModel(t *testing.T) *model {
	t.Helper()
	m := &model{tokens: make(chan string, 1000)}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.asked.Add(1)
		m.open.Add(1)
		defer m.open.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Vercel-AI-UI-Message-Stream", "v1")
		w.Header().Set("X-Secret", "of the first reader")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case token, more := <-m.tokens:
				if !more {
					if m.cut.Load() {
						panic(http.ErrAbortHandler)
					}
					return
				}
				fmt.Fprintf(w, "data: %s\n\n", token)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// recordSite records the answers of an application.
func recordSite(address, app, more string) string {
	return options("") + fmt.Sprintf(`http://%s {
	route /api/chat/* {
		evstream {
			record chat/{http.request.uri.path.2} {
				%s
			}
			resume chat/{http.request.uri.path.2}
			drain 100ms
			allow anyone subscribe,publish chat/*
		}
		reverse_proxy %s
	}
	evstream /live/* {
		allow anyone all **
	}
}
`, address, more, strings.TrimPrefix(app, "http://"))
}

// prompt begins an answer.
func prompt(t *testing.T, url, body string) *http.Response {
	t.Helper()
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// begun is an answer of which the first event, with "one", has come.
func begun(t *testing.T, m *model, url, body string) *http.Response {
	t.Helper()
	first := prompt(t, url, body)
	m.tokens <- "one"
	reads(t, first.Body, "data: one\n\n")
	return first
}

// reads reads exactly the text.
func reads(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(r, got)
	if string(got[:n]) != text {
		t.Fatalf("got %q, want %q: %v", got[:n], text, err)
	}
}

// rest reads to the end, and leaves the lines out that are ids and comments.
func rest(t *testing.T, r io.Reader) string {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%v after %q", err, all)
	}
	return withoutIDs(string(all))
}

func withoutIDs(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "id:") && !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "retry:") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func get(t *testing.T, url string, change ...func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestAnAnswerGoesOnWhenItsReaderHasGone(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, ""))
	url := "http://" + address + "/api/chat/7/stream"
	if resp := get(t, url); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("nothing is recorded, and the answer is %d", resp.StatusCode)
	}
	first := begun(t, m, url, `{"q":1}`)
	if first.Header.Get("X-Secret") == "" || first.Header.Get("X-Vercel-Ai-Ui-Message-Stream") != "v1" {
		t.Errorf("the header of the first reader is %v", first.Header)
	}
	first.Body.Close()
	m.tokens <- "two"
	second := get(t, url) // a page that was loaded again
	again := prompt(t, url, `{"q":1}`)
	for _, r := range []*http.Response{second, again} {
		if r.StatusCode != 200 || r.Header.Get("X-Vercel-Ai-Ui-Message-Stream") != "v1" || r.Header.Get("X-Secret") != "" || r.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%d, %v", r.StatusCode, r.Header)
		}
	}
	m.tokens <- "three"
	close(m.tokens)
	want := "data: one\n\ndata: two\n\ndata: three\n\n"
	for _, r := range []*http.Response{second, again} {
		if got := rest(t, r.Body); got != want {
			t.Errorf("got %q", got)
		}
	}
	if got := rest(t, prompt(t, url, `{"q":1}`).Body); got != want { // when it is over
		t.Errorf("kept: %q", got)
	}
	for query, want := range map[string]string{
		"?startIndex=1": "data: two\n\ndata: three\n\n", "?startIndex=-1": "data: three\n\n", "?starting_after=1": "data: three\n\n",
		"?startIndex=0": want, "?startIndex=9": "",
	} {
		if got := rest(t, get(t, url+query).Body); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	// An EventSource that has all of it is told not to come back.
	whole, err := io.ReadAll(get(t, url).Body)
	if err != nil {
		t.Fatal(err)
	}
	ids := regexp.MustCompile(`(?m)^id: (.*)$`).FindAllStringSubmatch(string(whole), -1)
	if len(ids) != 3 {
		t.Fatalf("ids in %q", whole)
	}
	if got := rest(t, get(t, url, header("Last-Event-ID", ids[0][1])).Body); got != "data: two\n\ndata: three\n\n" {
		t.Errorf("after the first event: %q", got)
	}
	if resp := get(t, url, header("Last-Event-ID", ids[2][1])); resp.StatusCode != http.StatusNoContent {
		t.Errorf("after the last event: %d", resp.StatusCode)
	}
	if resp := get(t, url, func(r *http.Request) { r.Method = http.MethodHead }); resp.StatusCode != http.StatusOK || resp.Header.Get("X-Vercel-Ai-Ui-Message-Stream") != "v1" {
		t.Errorf("HEAD: %d %v", resp.StatusCode, resp.Header)
	}
	if n := m.asked.Load(); n != 1 {
		t.Errorf("the application was asked %d times", n)
	}
	// Another question in the same chat.
	m.tokens = make(chan string, 10)
	next := prompt(t, url, `{"q":2}`)
	m.tokens <- "new"
	close(m.tokens)
	if got := rest(t, next.Body); got != "data: new\n\n" {
		t.Errorf("got %q", got)
	}
	if got := rest(t, get(t, url).Body); got != "data: new\n\n" {
		t.Errorf("kept: %q", got)
	}
}

func TestAnAnswerIsStopped(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, ""))
	url := "http://" + address + "/api/chat/7/stream"
	if status, _ := send(t, http.MethodDelete, url+"?stop", ""); status != http.StatusNotFound {
		t.Errorf("nothing is recorded, and to stop it is answered %d", status)
	}
	first := begun(t, m, url, "{}")
	second := get(t, url)
	if status, body := send(t, http.MethodDelete, url+"?stop", ""); status != http.StatusNoContent {
		t.Errorf("to stop it is answered %d %s", status, body)
	}
	eventually(t, "the application to be free", func() bool { return m.open.Load() == 0 })
	mark := "data: {\"type\":\"abort\"}\n\ndata: [DONE]\n\n"
	if got := rest(t, first.Body); got != mark {
		t.Errorf("the first reader got %q", got)
	}
	if got := rest(t, second.Body); got != "data: one\n\n"+mark {
		t.Errorf("the second reader got %q", got)
	}
}

// An answer is stopped where channels are served, too, by who may publish there.
func TestAnAnswerIsStoppedByItsChannel(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, ""))
	url := "http://" + address + "/api/chat/7"
	first := begun(t, m, url, "{}")
	channel := "http://" + address + "/live/chat/7"
	for query, want := range map[string]int{"?stop=0": 400, "?stop&history": 400, "?stopp": 400} {
		if status, body := send(t, http.MethodDelete, channel+query, ""); status != want {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, body := send(t, http.MethodDelete, channel+"?stop", ""); status != http.StatusNoContent {
		t.Errorf("%d %s", status, body)
	}
	if got := rest(t, first.Body); !strings.HasPrefix(got, "data: {\"type\":\"abort\"}") {
		t.Errorf("the reader got %q", got)
	}
	eventually(t, "it to have ended", func() bool { return recordedState(t, "chat/7") == runs.Stopped })
	if status, _ := send(t, http.MethodDelete, channel+"?stop", ""); status != http.StatusNotFound {
		t.Errorf("it is stopped again: %d", status)
	}
	if got := theHub(t, "default").Stats().Runs; got.Going != 0 || got.Kept != 1 || got.Ended[runs.Stopped] != 1 {
		t.Errorf("counted %+v", got)
	}
}

// Who may neither publish to the channel nor has begun the answer may not stop it, and
// who may not read it gets nothing of it.
func TestAnAnswerIsNotEverybodys(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	config := strings.Replace(recordSite(address, m.URL, ""), "allow anyone subscribe,publish chat/*", "caddy_auth\nallow user subscribe never", 1)
	load(t, strings.Replace(config, "\t\tevstream {\n\t\t\trecord", "basic_auth {\nalice "+guardHash+"\nbob "+guardHash+"\n}\n\t\tevstream {\n\t\t\trecord", 1))
	url := "http://" + address + "/api/chat/7"
	as := func(user string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, "hiccup") }
	}
	first := get(t, url, as("alice"), func(r *http.Request) { r.Method = http.MethodPost })
	m.tokens <- "one"
	reads(t, first.Body, "data: one\n\n")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if resp := get(t, url, as("bob"), func(r *http.Request) { r.Method = method }); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s by another user: %d", method, resp.StatusCode)
		}
	}
	if status, _ := send(t, http.MethodDelete, url+"?stop", "", as("bob"), header("Origin", "http://"+address)); status != http.StatusForbidden {
		t.Errorf("another user stops it: %d", status)
	}
	again := get(t, url, as("alice"))
	reads(t, again.Body, ": evstream\n")
	if status, body := send(t, http.MethodDelete, url+"?stop", "", as("alice"), header("Origin", "http://"+address)); status != http.StatusNoContent {
		t.Errorf("its own user: %d %s", status, body)
	}
	if m.asked.Load() != 1 {
		t.Errorf("the application was asked %d times", m.asked.Load())
	}
}

func TestAnAnswerThatIsCutOffIsBroken(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, "broken_event oops {\"it\":\"broke\"}"))
	url := "http://" + address + "/api/chat/7/stream"
	first := begun(t, m, url, "{}")
	m.cut.Store(true)
	close(m.tokens)
	mark := "event: oops\ndata: {\"it\":\"broke\"}\n\n"
	got, err := io.ReadAll(first.Body)
	if err == nil || string(got) != mark {
		t.Errorf("the first reader got %q, %v", got, err)
	}
	if got := rest(t, get(t, url).Body); got != "data: one\n\n"+mark {
		t.Errorf("kept: %q", got)
	}
	eventually(t, "it to be broken", func() bool { return recordedState(t, "chat/7") == runs.Broken })
}

// What is no event stream passes as it is, and is not recorded.
func TestOtherAnswersPassUnrecorded(t *testing.T) {
	var asked atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, `{"echo":%q}`, body)
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, recordSite(address, app.URL, ""))
	url := "http://" + address + "/api/chat/7/stream"
	for range 2 {
		if status, body := post(t, url, "hello"); status != http.StatusTeapot || body != `{"echo":"hello"}` {
			t.Errorf("%d %s", status, body)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the application was asked %d times", n)
	}
	if resp := get(t, url); resp.StatusCode != http.StatusNoContent {
		t.Errorf("it is recorded: %d", resp.StatusCode)
	}
}
