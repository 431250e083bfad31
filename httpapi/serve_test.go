package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

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

func TestAnErrorThatNobodyForesawTellsNothing(t *testing.T) {
	e := newTestHandler(t)
	w := httptest.NewRecorder()
	if err := e.fail(w, http.ErrBodyNotAllowed); err != nil {
		t.Fatal(err)
	}
	if got, want := w.Body.String(), `{"type":"urn:evstream:problem:internal","title":"The hub failed","status":500,"detail":"internal error; see the server's log"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
