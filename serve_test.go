package evstream

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestAPathOutsideOfTheMountGoesOn(t *testing.T) {
	e := newTestEndpoint(t, withCORS(t, "https://app.example"))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	for _, path := range []string{"/", "/livestock", "/live/../x"} {
		w := httptest.NewRecorder()
		if err := e.serve(w, request{method: "GET", path: path}.build(), next); err != nil || w.Code != http.StatusTeapot {
			t.Errorf("%s: %d, %v", path, w.Code, err)
		}
		if len(w.Header()) > 0 {
			t.Errorf("%s: %v was set for somebody else's answer", path, w.Header())
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, tt := range []struct {
		name         string
		accept       []string
		stream, json bool
	}{
		{"nothing said", nil, true, true},
		{"EventSource", []string{"text/event-stream"}, true, false},
		{"curl", []string{"*/*"}, true, true},
		{"json", []string{"application/json"}, false, true},
		{"json before all", []string{"application/json, text/plain, */*"}, false, true},
		{"both", []string{"text/event-stream, application/json"}, true, true},
		{"a browser", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, true, true},
		{"text", []string{"text/*"}, true, false},
		{"json preferred", []string{"text/event-stream;q=0.5, application/json;q=0.9"}, false, true},
		{"stream preferred", []string{"text/event-stream ; q=0.9 , application/json;q=0.8"}, true, true},
		{"no stream", []string{"text/event-stream;q=0, */*"}, false, true},
		{"no json", []string{"*/*, application/json;q=0.000"}, true, false},
		{"two headers", []string{"text/html", "application/json"}, false, true},
		{"case", []string{"Text/Event-Stream;Q=1.0"}, true, false},
		{"something else", []string{"image/png"}, false, false},
		{"a value that is none", []string{";;,,"}, false, false},
		{"an empty value", []string{""}, false, false},
	} {
		if got := negotiate(tt.accept); got.stream != tt.stream || got.json != tt.json {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
}

func TestGetsThatAreNoStream(t *testing.T) {
	for _, tt := range []struct {
		name, path, accept string
		status             int
		kind               string
	}{
		{"state", "/live/match.7", "application/json", 404, "no-state"},
		{"a picture", "/live/match.7", "image/png", 406, "not-acceptable"},
		{"a poll as a stream", "/live/match.7?poll=1", "text/event-stream", 406, "not-acceptable"},
		{"info as a stream", "/live/match.7?info", "text/event-stream", 406, "not-acceptable"},
		{"a flag that is none", "/live/match.7?poll=yes", "*/*", 400, "bad-parameter"},
		{"info of no channel", "/live?info", "*/*", 400, "bad-parameter"},
		{"info of a channel that is not there", "/live/match.7?info", "*/*", 404, "not-found"},
		{"info that is not allowed", "/live/secret?info", "*/*", 401, "unauthorized"},
		{"info of a pattern", "/live/match.*?info", "*/*", 400, "bad-channel"},
		{"a name beneath", "/live/public/", "text/event-stream", 405, "bad-method"},
		{"no channel", "/live", "text/event-stream", 400, "bad-parameter"},
		{"no channel but a slash", "/live/", "text/event-stream", 400, "bad-parameter"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantProblem(t, ask(t, newTestEndpoint(t), request{"GET", tt.path, []string{"Accept: " + tt.accept}, ""}), tt.status, tt.kind)
		})
	}
}

func TestProblemTypesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for i, k := range problemKinds {
		if k.name == "" || k.title == "" || k.status < 400 || seen[k.name] {
			t.Errorf("%d: %+v", i, k)
		}
		seen[k.name] = true
	}
	if len(problemKinds) != int(internal)+1 {
		t.Errorf("%d kinds, want %d", len(problemKinds), internal+1)
	}
}

func TestAnErrorThatNobodyForesawTellsNothing(t *testing.T) {
	e := newTestEndpoint(t)
	w := httptest.NewRecorder()
	if err := e.fail(w, http.ErrBodyNotAllowed); err != nil {
		t.Fatal(err)
	}
	if got, want := w.Body.String(), `{"type":"urn:evstream:problem:internal","title":"The hub failed","status":500,"detail":"the server's log tells more"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
