package evstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// users is an application that hands over what ?user= asks for.
func users(t *testing.T, open *atomic.Int32) string {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		h := w.Header()
		h.Set("X-Cursor", r.Header.Get("Last-Event-ID"))
		h.Set("Vary", "Origin")
		h.Set("Evstream-Channels", "room")
		if user := r.FormValue("user"); user != "" {
			h.Set("Evstream-User", user)
			h.Set("Evstream-Meta", `{"name":"`+strings.ToUpper(user)+`"}`)
		}
		if from := r.FormValue("from"); from != "" {
			h.Set("Evstream-Last-Event-ID", from)
		}
		if until := r.FormValue("until"); until != "" {
			h.Set("Evstream-Expires", until)
		}
	}))
	t.Cleanup(app.Close)
	return app.URL
}

// The hub treats the user that an application names as any other, and the application is
// free while its streams are open.
func TestTheUserOfAnApplicationIsAUser(t *testing.T) {
	var open atomic.Int32
	app := users(t, &open)
	address := freeAddress(t)
	config := strings.Replace(handoffSite(address, app, ""), options(""), options("evstream {\n\tmax_connections_per_user 2\n\tchannel room {\n\t\tpresence\n\t}\n}"), 1)
	load(t, config)
	streams := []*caddyStream{
		subscribe(t, "http://"+address+"/app/?user=ann"),
		subscribe(t, "http://"+address+"/app/?user=ann"),
		subscribe(t, "http://"+address+"/app/?user=bob"),
	}
	third := connect(t, "http://"+address+"/app/?user=ann")
	if third.ended(); third.header.Get("Vary") == "" {
		t.Errorf("a stream over the limit has the header %v", third.header)
	}
	status, body := send(t, "GET", "http://"+address+"/live/_presence/room", "")
	var members struct {
		Members []struct {
			User string
			Meta struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(body), &members); err != nil || status != 200 || len(members.Members) != 2 || members.Members[0].User != "ann" || members.Members[0].Meta.Name != "ANN" {
		t.Errorf("present are %s, %v", body, err)
	}
	mustPublish(t, "http://"+address+"/live/room?to=user:bob", "bob")
	mustPublish(t, "http://"+address+"/live/room?to=claim:name=ANN", "ann")
	mustPublish(t, "http://"+address+"/live/room", "all")
	for i, want := range []string{"ann", "ann", "bob"} {
		streams[i].expect(want)
		streams[i].expect("all")
	}

	for range 100 {
		subscribe(t, "http://"+address+"/app/")
	}
	h := theHub(t, "default")
	if n := h.Stats().Streams; n != 103 {
		t.Errorf("%d streams are open, want 103", n)
	}
	eventually(t, "the application to be free", func() bool { return open.Load() == 0 })
	if s := h.Sessions()[0]; !strings.HasPrefix(s.Address, "127.") {
		t.Errorf("the address of a stream is %q", s.Address)
	}
}

// A client that comes back is asked about again; where the application does not say where
// its stream begins, the client does.
func TestAClientComesBackToTheApplication(t *testing.T) {
	var open atomic.Int32
	app := users(t, &open)
	address := freeAddress(t)
	load(t, handoffSite(address, app, ""))
	_, first := post(t, "http://"+address+"/live/room", "one")
	var published struct{ ID string }
	if err := json.Unmarshal([]byte(first), &published); err != nil || published.ID == "" {
		t.Fatal(first, err)
	}
	mustPublish(t, "http://"+address+"/live/room", "two")
	mustPublish(t, "http://"+address+"/live/room", "three")
	cursor := header("Last-Event-ID", published.ID)
	s := subscribe(t, "http://"+address+"/app/", cursor)
	if got := s.header.Get("X-Cursor"); got != published.ID {
		t.Errorf("the application was told %q", got)
	}
	s.expect("two")
	s.expect("three")
	s = subscribe(t, "http://"+address+"/app/?from="+published.ID)
	s.expect("two")
	s = subscribe(t, "http://"+address+"/app/?from="+published.ID, header("Last-Event-ID", "unknown"))
	s.expect("two")
	// One that was told that it is over has the application decide, too.
	over := header("Last-Event-ID", "evstream.end")
	if s := connect(t, "http://"+address+"/app/", over); s.status != http.StatusNoContent || s.header.Get("X-Cursor") != "evstream.end" || s.header.Get("Content-Type") != "" {
		t.Errorf("after the end: %d, %v", s.status, s.header)
	}
	s = subscribe(t, "http://"+address+"/app/?from="+published.ID, over)
	s.expect("two")
	// One that has expired ends, and its client asks the application again.
	connect(t, "http://"+address+"/app/?until=2020-01-01T00:00:00Z").ended()
}

// What stands beside a handler that takes over does its work, and a stream is a stream.
func TestOtherHandlersStandBesideAHandoff(t *testing.T) {
	app := answers(t)
	upstream := strings.TrimPrefix(app.URL, "http://")
	address := freeAddress(t)
	load(t, options("")+fmt.Sprintf(`http://%s {
	header X-Front 1
	header Evstream-Channels front
	evstream /live/* {
		allow anyone all **
	}
	route /app/* {
		encode {
			gzip
			minimum_length 1
		}
		evstream {
			handoff
		}
		reverse_proxy %[2]s
	}
	route /intercepted/* {
		intercept {
			@text header X-Nothing *
			handle_response @text {
				respond "intercepted"
			}
		}
		evstream {
			handoff
		}
		uri strip_prefix /intercepted
		reverse_proxy %[2]s
	}
	route /behind/* {
		evstream {
			handoff
		}
		uri strip_prefix /behind
		reverse_proxy %[2]s {
			@refused status 403
			handle_response @refused {
				header Evstream-Channels a
				respond "data: of a route" 200
			}
			@created status 201
			handle_response @created {
				header Evstream-Channels a
				respond "data: of a route

" 200
			}
		}
	}
	handle_errors {
		respond "error page {err.status_code} {err.message}"
	}
}
`, address, upstream))
	base := "http://" + address
	for _, path := range []string{"/app/app/stream", "/intercepted/app/stream", "/behind/app/stream"} {
		path := strings.TrimPrefix(path, "/app")
		s := subscribe(t, base+path, header("Accept-Encoding", "gzip"))
		s.expect("first")
		mustPublish(t, base+"/live/a", path)
		s.expect(path)
		if s.header.Get("X-Front") != "1" || s.header.Get("Content-Encoding") != "" || s.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %v", path, s.header)
		}
	}
	if resp, _, err := answerOf(t, "GET", base+"/app/text", "", header("Accept-Encoding", "gzip")); err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("encode in front: %v, %v", err, resp)
	}
	s := subscribe(t, base+"/behind/app/created")
	s.expect("of a route")
	for _, path := range []string{"/behind/app/refused", "/app/dies"} {
		resp, body, err := answerOf(t, "GET", base+path, "")
		if err != nil || resp.StatusCode != http.StatusBadGateway || !strings.HasPrefix(body, "error page 502") || strings.Contains(body, "route") {
			t.Errorf("%s: %v, %v, %s", path, err, resp, body)
		}
	}
}

// adapts returns why a Caddyfile cannot be adapted.
func adapts(caddyfile string) error {
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	return err
}

// A block that hands over has no rules and no credentials: the error is at the word that
// is too much.
func TestHandoffStandsAlone(t *testing.T) {
	t.Setenv("EVSTREAM_TEST_SECRET", "a-long-secret-of-the-test")
	for _, tt := range []struct{ line, want string }{
		{"allow anyone subscribe **", "allow cannot stand beside handoff: the application decides"},
		{"bearer b {env.EVSTREAM_TEST_SECRET}", "bearer cannot stand beside handoff"},
		{"mount /live", "mount cannot stand beside handoff, record or resume: they serve no channels"},
		{"jwt {\nkey 0123456789abcdef0123456789abcdef\n}", "jwt cannot stand beside handoff"},
		{"caddy_auth", "caddy_auth cannot stand beside handoff"},
		{"cors https://a.example", "cors cannot stand beside handoff"},
		{"record a", "record cannot stand beside handoff"},
		{"resume a", "resume cannot stand beside handoff"},
		{"max_body 1MiB", "max_body cannot stand beside handoff"},
		{"handoff", "handoff is given twice"},
	} {
		for name, block := range map[string]string{"after": "handoff\n" + tt.line, "before": tt.line + "\nhandoff"} {
			err := adapts(options("") + ":0 {\n\tevstream /a {\n" + block + "\n\t}\n}\n")
			line := "at Caddyfile:11"
			if name == "before" {
				line = "at Caddyfile:10"
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.line != "handoff" && !strings.Contains(err.Error(), line) {
				t.Errorf("%s, %s: %v", tt.line, name, err)
			}
		}
	}
	if err := adapts(options("") + ":0 {\n\tevstream /a {\nhandoff now\n}\n}\n"); err == nil || !strings.Contains(err.Error(), `handoff takes grip, or nothing, not "now"`) {
		t.Error(err)
	}
	config := func(more string) string {
		return `{"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"evstream","handoff":{}` + more + `}]}]}}}}}`
	}
	if err := validateJSON(t, config(`,"allow":[{"who":"anyone","do":["subscribe"],"channels":["**"]}]`)); err == nil || !strings.Contains(err.Error(), "allow cannot stand beside handoff") {
		t.Error(err)
	}
	if err := validateJSON(t, config("")); err != nil {
		t.Error(err)
	}
}
