package httpapi

import (
	"encoding/json"
	"testing"
)

// docs/http.md says so: a stream cannot tell line ends apart, and what cannot arrive
// there does not arrive in a poll either.
func TestEveryLineEndArrivesAsLF(t *testing.T) {
	e := hubHandler(t, hubSetup{})
	hubMustPost(t, e, "/live/a", "a\r\nb\rc\nd\r\n")
	resp := hubAnswer(t, e, "GET", "/live/a?poll=1&since=earliest", "", "Accept: application/json")
	var got polled
	if err := json.Unmarshal([]byte(hubBody(t, resp)), &got); err != nil {
		t.Fatal(err)
	}
	if data := got.data(); len(data) != 1 || data[0] != "a\nb\nc\nd\n" {
		t.Errorf("%q", data)
	}
}
