package evstream

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// anApplication is what verify asks in tests.
type anApplication struct {
	*httptest.Server
	asked atomic.Int32
	mu    sync.Mutex // guards last
	last  *http.Request
}

func startApplication(t testing.TB, answer http.HandlerFunc) *anApplication {
	t.Helper()
	app := &anApplication{}
	app.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.asked.Add(1)
		app.mu.Lock()
		app.last = r
		app.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(app.Close)
	return app
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func TestTheApplicationSaysWhoItIs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		status int // 200: allowed
		user   string
	}{
		{"a user", says(200, `{"user":"alice","claims":{"room":7,"evstream":{"publish":["a"]}},"event":{"event":"hello","data":{"a": 1}}}`), 200, "alice"},
		{"a user, created", says(201, `{"user":"alice"}`), 200, "alice"},
		{"nobody", says(200, `{}`), 200, ""},
		{"nothing", says(204, ``), 200, ""},
		{"more than is understood", says(200, `{"user":"alice","name":"Alice","claims":null,"event":null}`), 200, "alice"},

		{"401", says(401, `{"user":"alice"}`), 401, ""},
		{"403", says(403, `{"user":"alice"}`), 403, ""},
		{"404", says(404, `{"user":"alice"}`), 503, ""},
		{"500", says(500, ``), 503, ""},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			redirectOnce(w, r, []byte(`{"user":"alice"}`))
		}, 503, ""},
		{"no JSON", says(200, `<html>`), 503, ""},
		{"another type", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"user":"alice"}`)) }, 503, ""},
		{"a user that is no string", says(200, `{"user":7}`), 503, ""},
		{"a user that is no text", says(200, "{\"user\":\"al\xffce\"}"), 503, ""},
		{"claims that are no object", says(200, `{"claims":[]}`), 503, ""},
		{"claims twice", says(200, `{"claims":{"a":1,"a":2}}`), 503, ""},
		{"grants that are none", says(200, `{"claims":{"evstream":{"subscribe":["a**"]}}}`), 503, ""},
		{"expired", says(200, `{"user":"alice","claims":{"exp":1}}`), 401, ""},
		{"an event of the hub's", says(200, `{"event":{"event":"evstream.open"}}`), 503, ""},
		{"an event that leaves its line", says(200, `{"event":{"event":"a\nid: 1"}}`), 503, ""},
		{"an event with an id", says(200, `{"event":{"id":"1-1"}}`), 503, ""},
		{"an event that is no object", says(200, `{"event":"hello"}`), 503, ""},
		{"too much", says(200, `{"user":"alice","x":"`+strings.Repeat("x", maxVerdict)+`"}`), 503, ""},
		{"broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte(`{"user":"alice"}`))
		}, 503, ""},
		{"no answer in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 503, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &Handler{Verify: &VerifyConfig{URL: startApplication(t, tt.answer).URL}}
			if tt.name == "no answer in time" {
				h.Verify.Timeout = 50e6
			}
			who, err := accessOf(t, h).identify(requestWith("of the application"))
			if tt.status != 200 {
				refusedWith(t, err, tt.status)
				return
			}
			if err != nil || who.user != tt.user {
				t.Fatalf("got %+v, %v", who, err)
			}
			if tt.name == "a user" && (string(who.welcome.Data) != `{"a":1}` || who.welcome.Type != "hello" ||
				who.grants.patterns["publish"][0].String() != "a" || who.claims["room"] == nil) {
				t.Errorf("got %+v", who)
			}
		})
	}
}

func TestWhatTheApplicationIsAsked(t *testing.T) {
	app := startApplication(t, says(200, `{"user":"alice"}`))
	r := httptest.NewRequest("GET", "https://hub.example/live/a?x=%20y", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	for name, value := range map[string]string{
		"Authorization": "Bearer abc", "Cookie": "session=1; b=2", "X-Custom": "z", "User-Agent": "test",
		"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Transfer-Encoding": "chunked", "Content-Length": "9", "Range": "bytes=0-",
		"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Uri": "/admin", "X-Forwarded-Method": "DELETE", "Last-Event-Id": "1-1", "If-None-Match": "*",
	} {
		r.Header.Set(name, value)
	}
	if _, err := accessOf(t, &Handler{Verify: &VerifyConfig{URL: app.URL + "/who?x=1"}}).identify(r); err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Accept": {"application/json"}, "Authorization": {"Bearer abc"}, "Cookie": {"session=1; b=2"}, "User-Agent": {"test"}, "X-Custom": {"z"},
		"Evstream-Verify": {"1"}, "X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Host": {"hub.example"},
		"X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Uri": {"/live/a?x=%20y"},
	}
	if got := app.last; got.Method != "GET" || got.RequestURI != "/who?x=1" || fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("asked\n%s %s %v, want\n%v", got.Method, got.RequestURI, got.Header, want)
	}
	h := &Handler{Verify: &VerifyConfig{URL: app.URL, Forward: []string{"cookie"}}}
	if _, err := accessOf(t, h).identify(r); err != nil {
		t.Fatal(err)
	}
	if got := app.last.Header; got.Get("Cookie") == "" || got.Get("Authorization") != "" || got.Get("X-Custom") != "" {
		t.Errorf("asked with %v", got)
	}
}

func TestAQuestionOfVerifyIsNotAskedAbout(t *testing.T) {
	app := startApplication(t, says(200, `{}`))
	r := requestWith("x")
	r.Header.Set(askedMark, "1")
	_, err := accessOf(t, &Handler{Verify: &VerifyConfig{URL: app.URL}}).identify(r)
	refusedWith(t, err, http.StatusForbidden)
	if app.asked.Load() != 0 {
		t.Error("the application was asked")
	}
}

func TestAnAnswerThatAllowsIsRemembered(t *testing.T) {
	app := startApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer bad" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		says(200, `{"user":"`+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+`"}`)(w, r)
	})
	a := accessOf(t, &Handler{Verify: &VerifyConfig{URL: app.URL, Cache: 60e9}})
	for range 3 {
		for _, user := range []string{"alice", "bob"} {
			if who, err := a.identify(requestWith(user)); err != nil || who.user != user {
				t.Fatalf("got %+v, %v", who, err)
			}
		}
	}
	if n := app.asked.Load(); n != 2 {
		t.Errorf("asked %d times for two questions", n)
	}
	for range 3 {
		_, err := a.identify(requestWith("bad"))
		refusedWith(t, err, http.StatusUnauthorized)
	}
	if n := app.asked.Load(); n != 5 {
		t.Errorf("a no was remembered: asked %d times, want 5", n)
	}
	none := accessOf(t, &Handler{Verify: &VerifyConfig{URL: app.URL}})
	for range 2 {
		if _, err := none.identify(requestWith("alice")); err != nil {
			t.Fatal(err)
		}
	}
	if n := app.asked.Load(); n != 7 {
		t.Errorf("asked %d times, want 7: nothing is remembered by default", n)
	}
}

// CVE-2026-39972: a cache key that is made by joining strings, so that one
// caller is given the answer to another. What defends is the length before
// each part in keyOfQuestion: with a plain join, the questions of each pair
// have the same key.
func TestQuestionsThatDifferAreRememberedApart(t *testing.T) {
	seen := map[[sha256.Size]byte]int{}
	for i, header := range []http.Header{
		{"A": {"b"}},
		{"A": {"b", ""}},
		{"A": {"", "b"}},
		{"A": {"b"}, "C": {"d"}},
		{"A": {"bC", "d"}},
		{"A": {"b", "C", "d"}},
		{"A": {"b\x00C\x00d"}},
		{"A": {"b1"}},
		{"Ab": {"1"}},
		{"A": {}, "B": {"1"}},
		{"Ab": {}, "1": {}},
		{"X-Forwarded-Uri": {"/live/a"}, "X-User": {"bob"}},
		{"X-Forwarded-Uri": {"/live/aX-User"}, "Bob": {}},
	} {
		key := keyOfQuestion(&http.Request{Header: header})
		if other, ok := seen[key]; ok {
			t.Errorf("question %d has the key of %d", i, other)
		}
		seen[key] = i
	}
}

func TestManyWhoAskTheSameAskOnce(t *testing.T) {
	all := make(chan struct{})
	app := startApplication(t, func(w http.ResponseWriter, r *http.Request) {
		<-all
		says(200, `{"user":"alice"}`)(w, r)
	})
	a := accessOf(t, &Handler{Verify: &VerifyConfig{URL: app.URL, Cache: 60e9}})
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			who, err := a.identify(requestWith("x"))
			if who.user != "alice" {
				err = fmt.Errorf("got %q, %w", who.user, err)
			}
			results <- err
		}()
	}
	eventually(t, "the application to be asked", func() bool { return app.asked.Load() > 0 })
	close(all)
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := app.asked.Load(); n > 2 { // one may have come after the answer was taken and before it was kept
		t.Errorf("asked %d times", n)
	}
}

func TestVerifySettingsThatAreRefused(t *testing.T) {
	for want, c := range map[string]VerifyConfig{
		"is not a URL":            {URL: "nonsense"},
		"must begin with https":   {URL: "http://app.example.com/"},
		"timeout must be":         {URL: "http://localhost/", Timeout: -1},
		"timeout must be from":    {URL: "http://localhost/", Timeout: 3600e9},
		"cache must be at most":   {URL: "http://localhost/", Cache: 7200e9},
		"is not the name of a he": {URL: "http://localhost/", Forward: []string{"a b"}},
	} {
		if _, err := openAccess(t, &Handler{Verify: &c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, url := range []string{"http://localhost:3000/", "http://127.0.0.1/", "http://10.0.0.5/", "http://[fd00::1]:80/", "https://app.example.com/"} {
		if _, err := newApplication(&VerifyConfig{URL: url}, nil); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAStreamBeginsWithTheApplicationsEventAndKeepsItsCaller(t *testing.T) {
	app := startApplication(t, says(200, `{"user":"alice","event":{"event":"hello","data":"Hello, Alice"}}`))
	address := freeAddress(t)
	config := func(url, more string) string {
		return site(address, "", "\t\tverify "+url+more+"\n\t\tallow anyone subscribe,publish **")
	}
	load(t, config(app.URL, ""))
	url := "http://" + address + "/live/a"
	s := subscribe(t, url)
	s.expect("Hello, Alice")
	asked := app.asked.Load()
	if err := reload(t, config(app.URL, " {\n\t\t\ttimeout 3s\n\t\t}")); err != nil {
		t.Fatal(err)
	}
	if app.asked.Load() != asked {
		t.Error("the reload asked the application")
	}
	if l := theHub(t, "default").list(); len(l) != 1 || l[0].who.user != "alice" {
		t.Errorf("got %+v", l)
	}
	mustPublish(t, url, "on", header("Origin", "http://"+address))
	s.expect("on")
	// Another application has not said that it is Alice: the client comes back
	// to have it asked.
	if err := reload(t, config(app.URL+"/other", "")); err != nil {
		t.Fatal(err)
	}
	s.ended()
}

func TestAnswersAreRememberedNoLongerThanTheCredentialLasts(t *testing.T) {
	app := startApplication(t, func(w http.ResponseWriter, r *http.Request) {
		says(200, fmt.Sprintf(`{"user":"alice","claims":{"exp":%d}}`, time.Now().Unix()+2))(w, r)
	})
	a := accessOf(t, &Handler{Verify: &VerifyConfig{URL: app.URL, Cache: 3600e9}})
	who, err := a.identify(requestWith("x"))
	if err != nil {
		t.Fatal(err)
	}
	question, err := a.application.question(requestWith("x"))
	if err != nil {
		t.Fatal(err)
	}
	a.application.mu.Lock()
	defer a.application.mu.Unlock()
	entry := a.application.verdicts.entries[keyOfQuestion(question)]
	if entry.until.IsZero() || !entry.until.Equal(who.expires) {
		t.Errorf("remembered until %s, the credential lasts until %s", entry.until, who.expires)
	}
}
