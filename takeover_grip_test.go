package evstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/evstream/caddy-evstream/stream"
)

const gripKey = "a-key-of-the-grip-test"

func gripSite(address, app, more string) string {
	return options("") + fmt.Sprintf(`http://%s {
	route /app/* {
		evstream {
			handoff grip {
				key %s
				publish /app/_grip
			}
			drain 100ms
		}
		%s
		reverse_proxy %s
	}
	evstream /live/* {
		allow anyone all **
	}
}
`, address, gripKey, more, strings.TrimPrefix(app, "http://"))
}

// gripPublish publishes as the libraries do, and returns the status and the answer.
func gripPublish(t *testing.T, body string, headers ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/evstream/_grip/publish/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+gripKey)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	if err := new(Admin).serve(w, r); err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Body.String()
}

// mustGrip publishes content on a channel.
func mustGrip(t *testing.T, channel, content, more string) {
	t.Helper()
	if status, answer := gripPublish(t, fmt.Sprintf(`{"items":[{"channel":%q,"formats":{"http-stream":{"content":%q}}%s}]}`, channel, content, more)); status != http.StatusOK || answer != "Published\n" {
		t.Fatal(status, answer)
	}
}

// An application with GRIP has a stream held, and publishes to it.
func TestAnApplicationWithGRIPHasItsAnswerHeld(t *testing.T) {
	var open atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		if r.Header.Get("Grip-Sig") == "" || r.Header.Get("Grip-Last") != "" || !strings.Contains(r.Header.Get("Grip-Feature"), "link:next") {
			t.Errorf("the application got %v", r.Header)
		}
		w.Header().Set("Grip-Hold", "stream")
		w.Header().Set("Grip-Channel", "room 1, users/42; filter=skip-self")
		w.Header().Set("Grip-Set-Meta", `user="ann"`)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Set-Cookie", "seen=1")
		fmt.Fprint(w, ":padding\n\nevent: stream-open\ndata:\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, gripSite(address, app.URL, ""))
	s := openRaw(t, "http://"+address+"/app/x", ":padding\n\nevent: stream-open\ndata:\n\n", header("Grip-Last", "forged"))
	eventually(t, "the application to be free", func() bool { return open.Load() == 0 })
	if s.header.Get("Set-Cookie") != "seen=1" {
		t.Error(s.header)
	}
	for name := range s.header {
		if strings.HasPrefix(name, "Grip-") {
			t.Errorf("%s reached the client", name)
		}
	}
	mustGrip(t, "room 1", "event: hi\ndata: one\n\ndata: two\nid: x\n\n", "")
	s.expect("event: hi\ndata: one\n\nid: x\ndata: two\n\n")
	mustGrip(t, "users/42", "data: of ann herself\n\n", `,"meta":{"sender":"ann"}`)
	mustGrip(t, "users/42", "data: once\n\n", `,"id":"1"`)
	mustGrip(t, "users/42", "data: once\n\n", `,"id":"1"`)
	mustPublish(t, "http://"+address+"/live/users/42", "without an id of the hub")
	s.expect("data: once\n\ndata: without an id of the hub\n\n")
	if status, answer := gripPublish(t, `{"items":[{"channel":"room 1","http-stream":{"action":"close"}}]}`, "Accept", "application/json"); status != http.StatusOK || answer != `{"message":"Published"}`+"\n" {
		t.Error(status, answer)
	}
	s.expect(":\n")
	if _, err := io.ReadAll(s.body); err != nil {
		t.Error(err)
	}
}

// An answer whose instructions cannot be followed is 502, and the client does not learn why.
func TestGRIPThatIsNotDoneIsBadGateway(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Grip-Channel", "secret")
		w.Header().Set("Grip-Hold", r.URL.Query().Get("hold"))
		w.Header().Set("X-App", "1")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, gripSite(address, app.URL, ""))
	resp, body, err := answerOf(t, "GET", "http://"+address+"/app/?hold=response", "")
	if err != nil || resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "bad-answer") || strings.Contains(body, "secret") || resp.Header.Get("X-App") != "" {
		t.Errorf("%v, %v, %s", err, resp, body)
	}
}

// An application publishes within the site, with the key, and such requests are not the
// application's own. The admin endpoint refuses what Node.js fetches: it says a mode of a
// browser's, and no origin.
func TestAnApplicationPublishesWithinTheSite(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			t.Error("the application got", r.URL)
		}
		w.Header().Set("Grip-Hold", "stream")
		w.Header().Set("Grip-Channel", "a")
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ":\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, gripSite(address, app.URL, ""))
	s := openRaw(t, "http://"+address+"/app/", ":\n\n")
	const body = `{"items":[{"channel":"a","http-stream":{"content":"data: x\n\n"}}]}`
	for key, want := range map[string]int{gripKey: http.StatusOK, "another-key": http.StatusUnauthorized} {
		resp, answer, err := answerOf(t, "POST", "http://"+address+"/app/_grip/publish/", body, header("Authorization", "Bearer "+key), header("Sec-Fetch-Mode", "cors"))
		if err != nil || resp.StatusCode != want {
			t.Errorf("%v, %v, %s", err, resp, answer)
		}
	}
	s.expect("data: x\n\n")
}

// What cannot be configured is named.
func TestMistakesInGRIPAreNamed(t *testing.T) {
	for block, want := range map[string]string{
		"handoff grip {\nkey short\n}":                           "handoff grip: key: the key has 5 bytes, at least 8 are needed, at Caddyfile:11",
		"handoff grip {\nkey {env.EVSTREAM_TEST_UNSET}\n}":       "handoff grip: key: {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy",
		"handoff grip {\npublish /_grip\n}":                      "publish needs a key",
		"handoff grip {\nkey long-enough\npublish _grip/\n}":     "publish must be a path such as /_grip",
		"handoff grip {\nissuer x\n}":                            `unknown subdirective "issuer"`,
		"handoff pushpin":                                        `handoff takes grip, or nothing, not "pushpin"`,
		"handoff grip now":                                       `handoff takes grip, or nothing, not "grip now"`,
		"handoff grip {\nkey a-long-key\n}\nallow anyone all **": "allow cannot stand beside handoff",
	} {
		file := options("") + ":0 {\n\tevstream {\n" + block + "\n\t}\n}\n"
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(file), nil)
		if err == nil {
			err = validate(t, file)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", block, err)
		}
	}
}

// A stream with a next link comes again after a reload, and one without goes on.
func TestAReloadAsksAnApplicationAgainWhereLinksLeadToIt(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Grip-Hold", "stream")
		w.Header().Set("Grip-Channel", "a")
		if r.URL.Query().Has("link") {
			w.Header().Set("Grip-Link", "<?link>; rel=next")
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: hello\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, gripSite(address, app.URL, ""))
	plain, linked := openRaw(t, "http://"+address+"/app/", "data: hello\n\n"), openRaw(t, "http://"+address+"/app/?link", "data: hello\n\n")
	h := theHub(t, "default")
	if err := reload(t, strings.Replace(gripSite(address, app.URL, ""), "allow anyone", "heartbeat 20s\nallow anyone", 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the linked stream to end", func() bool { return h.Stats().Disconnects[stream.ReasonReload] == 1 })
	linked.expect(":\n")
	mustGrip(t, "a", "data: still there\n\n", "")
	plain.expect("data: still there\n\n")
}

// rawStream is an open stream, byte by byte.
type rawStream struct {
	t      testing.TB
	header http.Header
	body   io.Reader
}

// openRaw opens a stream, which must begin with the bytes of opening.
func openRaw(t testing.TB, url, opening string, change ...func(*http.Request)) *rawStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET %s: %v", url, resp)
	}
	s := &rawStream{t, resp.Header, resp.Body}
	s.expect(opening)
	return s
}

// expect reads the bytes of want.
func (s *rawStream) expect(want string) {
	s.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(s.body, got); err != nil || string(got) != want {
		s.t.Fatalf("the stream has %q, %v, want %q", got[:n], err, want)
	}
}
