package e2e

import (
	"fmt"
	"testing"
)

// A page of another origin in a browser that has a cookie of the site. The origins
// differ in the port only, which cookies ignore: the browser sends the cookie.
func TestAForeignPageIsRefused(t *testing.T) {
	t.Parallel()
	evil, friend := freeAddress(t), freeAddress(t)
	site := `
http://%s {
	header Content-Type "text/html; charset=utf-8"
	respond "<!doctype html><title>another origin</title>"
}
`
	s := start(t, config("", `
	evstream /live/* {
		allow anyone subscribe,publish **
		cors  http://`+friend+`
	}
`)+fmt.Sprintf(site, evil)+fmt.Sprintf(site, friend))
	hub := "http://" + s.plain + "/live/"

	// send makes the page publish as a form could: without a preflight request.
	send := func(p *page, channel, data string) {
		t.Helper()
		await[string](t, p, fmt.Sprintf(`fetch(%q, {method: "POST", mode: "no-cors", credentials: "include", body: %q}).then(r => r.type)`, hub+channel, data))
	}
	// source makes the page follow a channel, and returns the readyState once the
	// EventSource is open or has given up.
	source := func(p *page, channel string, credentials bool) int {
		t.Helper()
		return await[int](t, p, fmt.Sprintf(`new Promise(done => {
			const source = new EventSource(%q, {withCredentials: %v});
			source.onopen = () => { done(source.readyState); source.close(); };
			source.onerror = () => { if (source.readyState === 2) done(2); };
		})`, hub+channel, credentials))
	}
	const open, closed = 1, 2

	for _, tt := range []struct {
		name, origin string
		published    bool
		state        int // of an EventSource with credentials
		public       int // of one without
	}{
		{"foreign", evil, false, closed, closed},
		{"named by cors", friend, true, open, open},
		{"the same", s.plain, true, open, open},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPage(t, "http://"+tt.origin+"/page")
			eval[string](t, p, `document.cookie = "session=1; path=/"`)
			channel := fmt.Sprintf("from.%d", len(tt.name))
			send(p, channel, "x")
			published := s.exists(t, hub+channel)
			if published != tt.published {
				t.Errorf("its event is published: %v, want %v", published, tt.published)
			}
			before := s.streams()
			if got := source(p, channel, true); got != tt.state {
				t.Errorf("its EventSource with a cookie has the state %d, want %d", got, tt.state)
			}
			// The browser hides answers of other origins from the page: the metrics tell
			// whether the hub began a stream for the visitor.
			if began := s.streams() - before; (began > 0) != tt.published {
				t.Errorf("%d streams began with the cookie", began)
			}
			if got := source(p, channel, false); got != tt.public {
				t.Errorf("its EventSource without has the state %d, want %d", got, tt.public)
			}
		})
	}
}

// streams is how many streams have begun.
func (s *server) streams() int {
	s.t.Helper()
	return s.metric(`evstream_connections{broker="default"}`) + s.disconnects("client")
}

// exists reports whether a channel has anything.
func (s *server) exists(t testing.TB, channel string) bool {
	t.Helper()
	answer, err := plainClient(t).Get(channel + "?info")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode == 200
}
