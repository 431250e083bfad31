package auth

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/sse"
)

// readEvent is a Deps.ReadEvent. What an event may be is the handler's to say,
// and tested in httpapi.
func readEvent(raw json.RawMessage) (*sse.Event, error) {
	if string(raw) == `"bad"` {
		return nil, errors.New("it is bad")
	}
	return &sse.Event{Type: "read", Data: raw}, nil
}

func TestTheApplicationSaysWhoItIs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		status int // 200: allowed
		user   string
	}{
		{"a user", authtest.Says(200, `{"user":"alice","claims":{"room":7,"evstream":{"publish":["a"]}},"event":{"event":"hello","data":{"a": 1}}}`), 200, "alice"},
		{"a user, created", authtest.Says(201, `{"user":"alice"}`), 200, "alice"},
		{"nobody", authtest.Says(200, `{}`), 200, ""},
		{"nothing", authtest.Says(204, ``), 200, ""},
		{"more than is understood", authtest.Says(200, `{"user":"alice","name":"Alice","claims":null,"event":null}`), 200, "alice"},

		{"401", authtest.Says(401, `{"user":"alice"}`), 401, ""},
		{"403", authtest.Says(403, `{"user":"alice"}`), 403, ""},
		{"404", authtest.Says(404, `{"user":"alice"}`), 503, ""},
		{"500", authtest.Says(500, ``), 503, ""},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			redirectOnce(w, r, []byte(`{"user":"alice"}`))
		}, 503, ""},
		{"no JSON", authtest.Says(200, `<html>`), 503, ""},
		{"another type", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"user":"alice"}`)) }, 503, ""},
		{"a user that is no string", authtest.Says(200, `{"user":7}`), 503, ""},
		{"a user that is no text", authtest.Says(200, "{\"user\":\"al\xffce\"}"), 503, ""},
		{"claims that are no object", authtest.Says(200, `{"claims":[]}`), 503, ""},
		{"a user twice", authtest.Says(200, `{"user":"alice","user":"bob"}`), 503, ""},
		{"a user, as others write it", authtest.Says(200, `{"USER":"alice"}`), 200, ""},
		{"claims twice", authtest.Says(200, `{"claims":{"a":1,"a":2}}`), 503, ""},
		{"grants that are none", authtest.Says(200, `{"claims":{"evstream":{"subscribe":["a**"]}}}`), 503, ""},
		{"expired", authtest.Says(200, `{"user":"alice","claims":{"exp":1}}`), 401, ""},
		{"an event that is none", authtest.Says(200, `{"user":"alice","event":"bad"}`), 503, ""},
		{"too much", authtest.Says(200, `{"user":"alice","x":"`+strings.Repeat("x", maxVerdict)+`"}`), 503, ""},
		{"broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte(`{"user":"alice"}`))
		}, 503, ""},
		{"no answer in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 503, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &Config{Verify: &Verify{URL: authtest.StartApplication(t, tt.answer).URL}}
			if tt.name == "no answer in time" {
				h.Verify.Timeout = 50e6
			}
			who, err := authOf(t, h, func(d *Deps) { d.ReadEvent = readEvent }).Authenticate(requestWith("of the application"))
			if tt.status != 200 {
				refusedWith(t, err, tt.status)
				return
			}
			if err != nil || who.User != tt.user {
				t.Fatalf("got %+v, %v", who, err)
			}
			if tt.name != "a user" {
				return
			}
			wantGrants(t, who, map[string]string{"publish": "a"})
			if who.Event == nil || who.Event.Type != "read" || string(who.Event.Data) != `{"event":"hello","data":{"a": 1}}` || who.Claims["room"] == nil {
				t.Errorf("got %+v", who)
			}
		})
	}
}

func TestWhatTheApplicationIsAsked(t *testing.T) {
	app := authtest.StartApplication(t, authtest.Says(200, `{"user":"alice"}`))
	r := httptest.NewRequest("GET", "https://hub.example/live/a?x=%20y", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	for name, value := range map[string]string{
		"Authorization": "Bearer abc", "Cookie": "session=1; b=2", "X-Custom": "z", "User-Agent": "test",
		"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Transfer-Encoding": "chunked", "Content-Length": "9", "Range": "bytes=0-",
		"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Uri": "/admin", "X-Forwarded-Method": "DELETE", "X_Forwarded_Uri": "/admin", "X-Forwarded_Method": "DELETE", "Last-Event-Id": "1-1", "If-None-Match": "*",
	} {
		r.Header.Set(name, value)
	}
	if _, err := authOf(t, &Config{Verify: &Verify{URL: app.URL + "/who?x=1"}}).Authenticate(r); err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Accept": {"application/json"}, "Authorization": {"Bearer abc"}, "Cookie": {"session=1; b=2"}, "User-Agent": {"test"}, "X-Custom": {"z"},
		"Evstream-Verify": {"1"}, "X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Host": {"hub.example"},
		"X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Uri": {"/live/a?x=%20y"},
	}
	if got := app.Last(); got.Method != "GET" || got.RequestURI != "/who?x=1" || fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("asked\n%s %s %v, want\n%v", got.Method, got.RequestURI, got.Header, want)
	}
	h := &Config{Verify: &Verify{URL: app.URL, Forward: []string{"cookie"}}}
	if _, err := authOf(t, h).Authenticate(r); err != nil {
		t.Fatal(err)
	}
	if got := app.Last().Header; got.Get("Cookie") == "" || got.Get("Authorization") != "" || got.Get("X-Custom") != "" {
		t.Errorf("asked with %v", got)
	}
}

func TestAQuestionOfVerifyIsNotAskedAbout(t *testing.T) {
	app := authtest.StartApplication(t, authtest.Says(200, `{}`))
	r := requestWith("x")
	r.Header.Set(askedMark, "1")
	_, err := authOf(t, &Config{Verify: &Verify{URL: app.URL}}).Authenticate(r)
	refusedWith(t, err, http.StatusForbidden)
	if app.Asked.Load() != 0 {
		t.Error("the application was asked")
	}
}

func TestAnAnswerThatAllowsIsRemembered(t *testing.T) {
	app := authtest.StartApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer bad" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		authtest.Says(200, `{"user":"`+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+`"}`)(w, r)
	})
	a := authOf(t, &Config{Verify: &Verify{URL: app.URL, Cache: 60e9}})
	for range 3 {
		for _, user := range []string{"alice", "bob"} {
			if who, err := a.Authenticate(requestWith(user)); err != nil || who.User != user {
				t.Fatalf("got %+v, %v", who, err)
			}
		}
	}
	if n := app.Asked.Load(); n != 2 {
		t.Errorf("asked %d times for two questions", n)
	}
	for range 3 {
		_, err := a.Authenticate(requestWith("bad"))
		refusedWith(t, err, http.StatusUnauthorized)
	}
	if n := app.Asked.Load(); n != 5 {
		t.Errorf("a no was remembered: asked %d times, want 5", n)
	}
	none := authOf(t, &Config{Verify: &Verify{URL: app.URL}})
	for range 2 {
		if _, err := none.Authenticate(requestWith("alice")); err != nil {
			t.Fatal(err)
		}
	}
	if n := app.Asked.Load(); n != 7 {
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
	asked, all := make(chan struct{}, 20), make(chan struct{})
	app := authtest.StartApplication(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-all
		authtest.Says(200, `{"user":"alice"}`)(w, r)
	})
	a := authOf(t, &Config{Verify: &Verify{URL: app.URL, Cache: 60e9}})
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			who, err := a.Authenticate(requestWith("x"))
			if err == nil && who.User != "alice" {
				err = fmt.Errorf("got %q", who.User)
			}
			results <- err
		}()
	}
	<-asked
	close(all)
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := app.Asked.Load(); n > 2 { // one may have come after the answer was taken and before it was kept
		t.Errorf("asked %d times", n)
	}
}

func TestVerifySettingsThatAreRefused(t *testing.T) {
	for want, c := range map[string]Verify{
		"is not a URL":            {URL: "nonsense"},
		"must begin with https":   {URL: "http://app.example.com/"},
		"timeout must be":         {URL: "http://localhost/", Timeout: -1},
		"timeout must be from":    {URL: "http://localhost/", Timeout: 3600e9},
		"cache must be at most":   {URL: "http://localhost/", Cache: 7200e9},
		"is not the name of a he": {URL: "http://localhost/", Forward: []string{"a b"}},
	} {
		if _, err := openAuth(t, &Config{Verify: &c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, url := range []string{"http://localhost:3000/", "http://127.0.0.1/", "http://10.0.0.5/", "http://[fd00::1]:80/", "https://app.example.com/"} {
		if _, err := newApplication(&Verify{URL: url}, new(Deps)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAnswersAreRememberedNoLongerThanTheCredentialLasts(t *testing.T) {
	app := authtest.StartApplication(t, func(w http.ResponseWriter, r *http.Request) {
		authtest.Says(200, fmt.Sprintf(`{"user":"alice","claims":{"exp":%d}}`, time.Now().Unix()+2))(w, r)
	})
	a := authOf(t, &Config{Verify: &Verify{URL: app.URL, Cache: 3600e9}})
	who, err := a.Authenticate(requestWith("x"))
	if err != nil {
		t.Fatal(err)
	}
	question, err := a.application.question(requestWith("x"))
	if err != nil {
		t.Fatal(err)
	}
	a.application.mu.Lock()
	defer a.application.mu.Unlock()
	_, until, ok := a.application.verdicts.Entry(keyOfQuestion(question))
	if !ok || until.IsZero() || !until.Equal(who.Expires) {
		t.Errorf("remembered until %s, the credential lasts until %s", until, who.Expires)
	}
}

// Whoever the application accepts could fill the cache with requests that differ, so
// that it is asked about everybody else each time.
func TestAnswersOfOneCallerLeaveRoomForOthers(t *testing.T) {
	app := authtest.StartApplication(t, func(w http.ResponseWriter, r *http.Request) {
		authtest.Says(200, fmt.Sprintf(`{"user":%q}`, r.Header.Get("X-User")))(w, r)
	})
	a := authOf(t, &Config{Verify: &Verify{URL: app.URL, Cache: time.Hour, Forward: []string{"X-User", "X-Any"}}})
	a.application.verdicts.Limit, a.application.verdicts.Share = 20, 10
	ask := func(user, anything, address string) {
		t.Helper()
		r := requestFor("GET", "hub.example", "", "X-User: "+user, "X-Any: "+anything)
		r.RemoteAddr = address + ":1"
		if _, err := a.Authenticate(r); err != nil {
			t.Fatal(err)
		}
	}
	victims := func() {
		ask("victim", "", "198.51.100.7")
		ask("", "", "198.51.100.7")
	}
	attack := func() {
		for i := range 100 {
			ask("mallory", fmt.Sprint(i), "203.0.113.9")
			ask("", fmt.Sprint(i), fmt.Sprintf("[2001:db8::%d]", i))
		}
	}
	attack()
	victims()
	attack()
	asked := app.Asked.Load()
	victims()
	ask("mallory", "99", "203.0.113.9")
	if n := app.Asked.Load() - asked; n != 0 {
		t.Errorf("it was asked %d times again", n)
	}
	if n := a.application.verdicts.Len(); n > 20 {
		t.Errorf("%d answers are remembered", n)
	}
}
