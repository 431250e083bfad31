package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

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
