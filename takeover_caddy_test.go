package evstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/stream"
)

// handoffSite is a site whose application hands over, and a mount to publish at.
func handoffSite(address, app, more string) string {
	return options("") + fmt.Sprintf(`http://%s {
	route /app/* {
		evstream {
			handoff
			drain 100ms
		}
		%s
		reverse_proxy %s
	}
	evstream /live/* {
		allow anyone all **
	}
}
`, address, more, strings.TrimPrefix(app, "http://"))
}

// An application's answer that names channels becomes a stream, and the request to the
// application is over.
func TestAnApplicationHandsItsAnswerOver(t *testing.T) {
	var open atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		w.Header().Set("Evstream-Channels", "match.7, users/42")
		w.Header().Set("Evstream-User", "ann")
		w.Header().Set("Set-Cookie", "seen=1")
		w.Header().Set("Access-Control-Allow-Origin", "https://a.example")
		fmt.Fprint(w, "data: hello\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, handoffSite(address, app.URL, ""))
	s := subscribe(t, "http://"+address+"/app/x?y=1", header("Evstream-User", "forged"))
	s.expect("hello")
	eventually(t, "the application to be free", func() bool { return open.Load() == 0 })
	for name, want := range map[string]string{"Set-Cookie": "seen=1", "Access-Control-Allow-Origin": "https://a.example", "Content-Type": "text/event-stream"} {
		if got := s.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name := range s.header {
		if strings.HasPrefix(name, "Evstream-") {
			t.Errorf("%s reached the client", name)
		}
	}
	mustPublish(t, "http://"+address+"/live/users/42", "to ann")
	s.expect("to ann")
	mustPublish(t, "http://"+address+"/live/match.7", "goal")
	s.expect("goal")
	mustPublish(t, "http://"+address+"/live/match.7?to=user:ann", "only ann")
	s.expect("only ann")
}

// A reload that changes nothing on the way keeps the stream; another application behind
// has to decide again.
func TestAReloadAsksAnApplicationAgainIfItIsAnother(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Evstream-Channels", "a")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, handoffSite(address, app.URL, ""))
	s := subscribe(t, "http://"+address+"/app/")
	h := theHub(t, "default")
	if err := reload(t, handoffSite(address, app.URL, "")+"# the same\n"); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, strings.Replace(handoffSite(address, app.URL, ""), "allow anyone", "heartbeat 20s\nallow anyone", 1)); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, "http://"+address+"/live/a", "still there")
	s.expect("still there")
	if err := reload(t, handoffSite(address, app.URL, "basic_auth {\nalice "+guardHash+"\n}")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream to be told", func() bool { return h.Stats().Disconnects[stream.ReasonReload] > 0 })
	s.ended()
	if again := connect(t, "http://"+address+"/app/"); again.status != http.StatusUnauthorized {
		t.Errorf("coming back is answered %d", again.status)
	}
}

// An answer that cannot become a stream is 502, and the client does not learn why.
func TestAMalformedHandoffIsBadGateway(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Evstream-Channels", "a//b")
		w.Header().Set("X-App", "1")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, handoffSite(address, app.URL, ""))
	resp, body, err := answerOf(t, "GET", "http://"+address+"/app/", "")
	if err != nil || resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "bad-answer") || strings.Contains(body, "a//b") || resp.Header.Get("X-App") != "" {
		t.Errorf("%v, %v, %s", err, resp, body)
	}
}
