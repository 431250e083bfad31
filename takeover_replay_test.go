package evstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A client of an answer takes its end for the end of the answer.
func TestAReaderThatIsTurnedAwayIsCut(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, bodySite(address, m.URL, "allow anyone subscribe,publish chat/*"))
	url := "http://" + address + "/api/chat"
	first := begun(t, m, url, `{"id":"7"}`)
	second := get(t, url+"/7/stream")
	if err := reload(t, bodySite(address, m.URL, "bearer someone a-long-secret-of-the-test\nallow someone subscribe,publish chat/*")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(second.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || withoutIDs(string(got)) != "data: one\n\n" {
		t.Errorf("the reader got %q, %v", got, err)
	}
	m.tokens <- "two"
	close(m.tokens)
	if got := rest(t, first.Body); got != "data: two\n\n" { // the application lets it read
		t.Errorf("the first reader got %q", got)
	}
}

// LangGraph's client has -1 for the start. What the hub refuses does not look like the
// application's answer.
func TestWhereAClientBegins(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, bodySite(address, m.URL, "allow anyone subscribe,publish chat/*"))
	url := "http://" + address + "/api/chat"
	m.tokens <- "one"
	close(m.tokens)
	_ = rest(t, prompt(t, url, `{"id":"7"}`).Body)
	after := func(id string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Last-Event-ID", id) }
	}
	if got := rest(t, get(t, url+"/7/stream", after("-1")).Body); got != "data: one\n\n" {
		t.Errorf("from the start: %q", got)
	}
	refused := get(t, url+"/7/stream", after("of-another-hub"))
	if refused.StatusCode != http.StatusGone || refused.Header.Get("X-Vercel-Ai-Ui-Message-Stream") != "" {
		t.Errorf("an unknown id is answered %d, %v", refused.StatusCode, refused.Header)
	}
	// The last of a run are not those of the run before.
	m.tokens = make(chan string, 1)
	m.tokens <- "new"
	close(m.tokens)
	_ = rest(t, prompt(t, url, `{"id":"7","again":true}`).Body)
	if got := rest(t, get(t, url+"/7/stream?startIndex=-5").Body); got != "data: new\n\n" {
		t.Errorf("the last five: %q", got)
	}
}

// A chat whose answers are their user's alone needs no rule for users. The page of a new
// chat asks for its answer, too, and must not get an error.
func TestAUserWithoutARuleGetsNothingOrTheirOwn(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, bodySite(address, m.URL, "caddy_auth\nbearer backend a-long-secret-of-the-test\nallow backend subscribe chat/*\n\t}\n\tbasic_auth {\nalice "+guardHash+"\nbob "+guardHash))
	as := func(user string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, "hiccup") }
	}
	url := "http://" + address + "/api/chat"
	for _, user := range []string{"alice", "bob"} {
		if resp := get(t, url+"/7/stream", as(user)); resp.StatusCode != http.StatusNoContent {
			t.Errorf("nothing is recorded, and %s gets %d", user, resp.StatusCode)
		}
	}
	first := get(t, url, as("alice"), func(r *http.Request) {
		r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(`{"id":"7"}`))
	})
	m.tokens <- "one"
	reads(t, first.Body, "data: one\n\n")
	for user, want := range map[string]int{"alice": http.StatusOK, "bob": http.StatusForbidden} {
		if resp := get(t, url+"/7/stream", as(user)); resp.StatusCode != want {
			t.Errorf("%s gets %d", user, resp.StatusCode)
		}
	}
}
