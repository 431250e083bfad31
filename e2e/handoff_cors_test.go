package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Of a stream that is handed over, the application says which origins may read it, with the
// cookie or without: the hub adds nothing, and loses nothing.
func TestTheApplicationSaysWhichOriginsReadAStreamThatIsHandedOver(t *testing.T) {
	t.Parallel()
	evil, friend := freeAddress(t), freeAddress(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Origin")
		if r.Header.Get("Origin") == "http://"+friend {
			w.Header().Set("Access-Control-Allow-Origin", "http://"+friend)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
		user := "nobody"
		if c, err := r.Cookie("session"); err == nil {
			user = "ann" + c.Value
		}
		if strings.HasPrefix(r.URL.Path, "/grip/") {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Grip-Hold", "stream")
			w.Header().Set("Grip-Channel", "a")
		} else {
			w.Header().Set("Evstream-Channels", "a")
		}
		fmt.Fprintf(w, "event: welcome\ndata: %s\n\n", user)
	}))
	t.Cleanup(app.Close)
	site := "\nhttp://%s {\n\theader Content-Type \"text/html; charset=utf-8\"\n\trespond \"<!doctype html><title>another origin</title>\"\n}\n"
	to := strings.TrimPrefix(app.URL, "http://")
	s := start(t, config("", `
	route /plain/* {
		evstream {
			handoff
		}
		reverse_proxy `+to+`
	}
	route /grip/* {
		evstream {
			handoff grip {
				key a-key-of-the-test
			}
		}
		reverse_proxy `+to+`
	}
`)+fmt.Sprintf(site, evil)+fmt.Sprintf(site, friend))
	// welcome is what the first event of an EventSource says, or that it has given up.
	welcome := func(p *page, path string, credentials bool) string {
		t.Helper()
		return await[string](t, p, fmt.Sprintf(`new Promise(done => {
			const source = new EventSource(%q, {withCredentials: %v});
			source.addEventListener("welcome", e => { done(e.data); source.close(); });
			source.onerror = () => { if (source.readyState === 2) done("refused"); };
		})`, "http://"+s.plain+path, credentials))
	}
	for origin, want := range map[string][2]string{evil: {"refused", "refused"}, friend: {"ann1", "nobody"}, s.plain: {"ann1", "ann1"}} {
		p := newPage(t, "http://"+origin+"/page")
		eval[string](t, p, `document.cookie = "session=1; path=/"`)
		for _, path := range []string{"/plain/x", "/grip/x"} {
			if got := [2]string{welcome(p, path, true), welcome(p, path, false)}; got != want {
				t.Errorf("%s, %s: %v with and without the cookie, want %v", origin, path, got, want)
			}
		}
	}
}
