package evstream

import "testing"

// HEAD is answered as GET is, without the body.
func TestHeadIsAnsweredAsGet(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, tt := range []struct {
			path, accept, contentType string
			status                    int
		}{
			{"/live/match.7", "*/*", "text/event-stream", 200},
			{"/live/match.7", "text/event-stream", "text/event-stream", 200},
			{"/live/?channel=match.7&channel=public/**", "*/*", "text/event-stream", 200},
			{"/live/match.7?poll=1", "application/json", "application/json", 200},
			{"/live/match.7", "application/json", "application/problem+json", 404},
			{"/live/secret", "*/*", "application/problem+json", 401},
			{"/live/", "*/*", "application/problem+json", 400},
		} {
			resp := ask(t, e, request{"HEAD", tt.path, []string{"Accept: " + tt.accept}, ""})
			if got := resp.Header.Get("Content-Type"); resp.StatusCode != tt.status || got != tt.contentType {
				t.Errorf("HEAD %s, %s: %d %s", tt.path, tt.accept, resp.StatusCode, got)
			}
			if body := bodyOf(t, resp); body != "" {
				t.Errorf("HEAD %s has %q", tt.path, body)
			}
		}
	})
}
