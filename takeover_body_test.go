package evstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func TestJSONMembers(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"a b/ü"}`:                       "a b/ü",
		` { "x": {"id":1}, "id" : "a" } `:      "a",
		`{"id":12345678901234567890123}`:       "12345678901234567890123",
		`{"id":-7}`:                            "-7",
		`{"id":"\u0061"}`:                      "a",
		`{"\u0069d":"a"}`:                      "a",
		`{"ID":"a"}`:                           "-",
		`{"id":"a","id":"b"}`:                  "-",
		`{"id":"a","x":[{"id":"b"}],"id":"a"}`: "-",
		`{"id":1.5}`:                           "-",
		`{"id":1e3}`:                           "-",
		`{"id":["a"]}`:                         "-",
		`{"id":{"a":"b"}}`:                     "-",
		`{"id":true}`:                          "-",
		`{"id":"a"`:                            "-",
		`{"id":"a",}`:                          "-",
		`["id","a"]`:                           "-",
		`"id"`:                                 "-",
		`id=a`:                                 "-",
		``:                                     "-",
	} {
		got, ok := jsonMember([]byte(text), "id")
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got, ok := jsonMember([]byte(`{"config":{"thread":{"id":"x"}}}`), "config.thread.id"); got != "x" || !ok {
		t.Errorf("of objects in objects: %q, %v", got, ok)
	}
}

// bodySite records answers on the channel that the request's body names.
func bodySite(address, app, more string) string {
	return options("") + "http://" + address + ` {
	evstream /api/chat* {
		record chat/{evstream.body.id}
		resume chat/{http.request.uri.path.2}
		` + more + `
	}
	reverse_proxy ` + strings.TrimPrefix(app, "http://") + `
}
`
}

// The AI SDK's useChat says in the body which chat a question belongs to, and asks in the
// path for the answer.
func TestABodyNamesTheChannel(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, bodySite(address, m.URL, "allow anyone subscribe,publish chat/*"))
	url := "http://" + address + "/api/chat"
	first := prompt(t, url, `{"id":"7","messages":[]}`)
	m.tokens <- "one"
	reads(t, first.Body, "data: one\n\n")
	again := get(t, url+"/7/stream")
	if status, body := send(t, http.MethodDelete, url+"/7?stop", ""); status != http.StatusNoContent {
		t.Errorf("to stop it is answered %d %s", status, body)
	}
	if got := rest(t, again.Body); !strings.HasPrefix(got, "data: one\n\n") {
		t.Errorf("got %q", got)
	}
}

func TestARequestWithoutAChannelIsNotRecorded(t *testing.T) {
	var bodies atomic.Value
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies.Store(string(body))
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, bodySite(address, app.URL, "max_body 1KiB\nallow anyone subscribe,publish chat/*"))
	url := "http://" + address + "/api/chat"
	for _, body := range []string{`{"chat":"7"}`, `{"id":"7","id":"8"}`, `{"id":""}`, "id=7", ""} {
		if status, got := post(t, url, body); status != http.StatusOK || got != "data: one\n\n" {
			t.Errorf("%s: %d %s", body, status, got)
		}
		if got := bodies.Load(); got != body {
			t.Errorf("the application got %q, not %q", got, body)
		}
	}
	if n := theHub(t, "default").Runs().Counts(); n.Going+n.Kept > 0 {
		t.Errorf("runs are known: %+v", n)
	}
	if status, got := post(t, url, `{"id":"7","x":"`+strings.Repeat("x", 1024)+`"}`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d %s", status, got)
	}
}

func TestMistakesInNamesOfRecordedChannels(t *testing.T) {
	for name, tt := range map[string]struct{ block, want string }{
		"resume by the body": {"resume chat/{evstream.body.id}", "resume answers GET, which has no body"},
		"misspelt":           {"record chat/{evstream.bdy.id}", "{evstream.bdy.id} means nothing"},
		"no member":          {"record chat/{evstream.body.}", "{evstream.body.} means nothing"},
		"an empty member":    {"record chat/{evstream.body.a..b}", "{evstream.body.a..b} means nothing"},
		"a long last event":  {"record chat/7 {\nbroken_event oops " + strings.Repeat("x", 4<<10) + "\n}", "broken_event has 4104 bytes as JSON, at most 4096 are allowed"},
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":0 {\n\tevstream /api/* {\nallow anyone subscribe chat/*\n"+tt.block+"\n\t}\n}\n"), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
