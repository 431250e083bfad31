package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

// A write with a condition that is not looked at does nothing: what the client believes to
// be guarded would be done in any case.
func TestAWriteWithAConditionThatIsNotLookedAtDoesNothing(t *testing.T) {
	e := hubHandler(t, hubSetup{})
	for _, path := range []string{"/live/a", "/live/b"} {
		if resp := hubAnswer(t, e, "PUT", path, "1"); resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %d", path, resp.StatusCode)
		}
		hubAnswer(t, e, "POST", path, "kept")
	}
	const match, none, since, part = `If-Match: "1-0"`, `If-None-Match: *`, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "Content-Range: bytes 0-0/9"
	for _, tt := range []struct {
		method, path, body string
		headers            []string
	}{
		{"POST", "/live/a", "x", []string{match, none, since, part}},
		{"POST", "/live/a?close", "", []string{match, none, since}},
		{"POST", "/live/a/", "x", []string{match}},
		{"POST", "/live/_publish", `{"channel":"a","data":"x"}`, []string{match, none, since}},
		{"POST", "/live/_publish", `{"channel":"a","state":2}`, []string{match, none, since}},
		{"DELETE", "/live/a?history", "", []string{match, none, since}},
		{"DELETE", "/live/a?stop", "", []string{match}},
		{"DELETE", "/live/a", "", []string{since}},
		{"PUT", "/live/a", "2", []string{since, part}},
		{"PATCH", "/live/a?incr=1", "", []string{since}},
		{"PUT", "/live/_presence/a", "1", []string{match}},
		{"DELETE", "/live/_sessions/MZ3HSEYrlgnGQgSZad0U_Q", "", []string{match}},
	} {
		for _, header := range tt.headers {
			resp := hubAnswer(t, e, tt.method, tt.path, tt.body, header)
			hubProblem(t, resp, http.StatusBadRequest, "bad-precondition")
		}
	}
	if got := hubBody(t, hubAnswer(t, e, "GET", "/live/a", "", "Accept: application/json", since)); strings.TrimSpace(got) != "1" {
		t.Errorf("the value is %q", got)
	}
	if got := hubBody(t, hubAnswer(t, e, "GET", "/live/a?poll=1&since=earliest", "", match)); strings.Count(got, `"data"`) != 2 || !strings.Contains(got, `"kept"`) {
		t.Errorf("the channel keeps %s", got)
	}
}
