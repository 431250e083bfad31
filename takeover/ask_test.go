package takeover

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// ask has an application answer one request.
func ask(t *testing.T, method string, app http.HandlerFunc) (*httptest.ResponseRecorder, *Answer, error) {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", nil)
	w.Header().Set("Evstream-Channels", "of-a-handler-in-front")
	r.Header.Set("Evstream-User", "forged")
	for _, name := range []string{"evstream-channels", "EVSTREAM_META", "Evstream.Expires"} {
		r.Header[name] = []string{"forged"}
	}
	r.Header.Set("Evstreams", "another name")
	a, err := Ask(w, r, func(w http.ResponseWriter, r *http.Request) error {
		for name := range r.Header {
			if strings.HasPrefix(strings.ToLower(name), "evstream") && name != "Evstreams" {
				t.Errorf("the application got %s of the client", name)
			}
		}
		if r.Header.Get("Evstreams") == "" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("the application got %v", r.Header)
		}
		app(w, r)
		return nil
	})
	return w, a, err
}

func TestAnAnswerWithChannelsIsHeldBack(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		w, a, err := ask(t, method, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Evstream-Channels", "match.7, users/42,match.7")
			h.Set("Evstream-User", "ann")
			h.Set("Evstream-Meta", `{"a":1}`)
			h.Set("Evstream-Last-Event-ID", "1-2")
			h.Set("Evstream-Expires", "2026-01-31T12:00:00Z")
			h.Set("Set-Cookie", "a=b")
			h.Set("Content-Length", "21")
			_, _ = w.Write([]byte("event: hi\ndata: one\n\n"))
			w.(http.Flusher).Flush()
			h.Set(http.TrailerPrefix+"X-Sum", "1")
		})
		if err != nil || a == nil {
			t.Fatal(a, err)
		}
		if !slices.Equal(a.Channels, []string{"match.7", "users/42"}) || a.User != "ann" || string(a.Meta) != `{"a":1}` || a.LastEventID != "1-2" || a.Expires.IsZero() ||
			len(a.Events) != 1 || a.Events[0].Type != "hi" || string(a.Events[0].Data) != "one" {
			t.Errorf("%+v", a)
		}
		if len(w.Header()) != 1 || w.Header().Get("Set-Cookie") != "a=b" || w.Flushed || w.Body.Len() > 0 {
			t.Errorf("written: %v %q", w.Header(), w.Body)
		}
	}
}

func TestEveryOtherAnswerPasses(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		status       int
		channels     string
	}{
		{"no channels", "GET", 200, ""},
		{"an error", "GET", 403, "a"},
		{"a redirect", "GET", 302, "a"},
		{"a range", "GET", 206, "a"},
		{"HEAD", "HEAD", 200, ""},
		{"PUT", "PUT", 200, ""},
	} {
		w, a, err := ask(t, tt.method, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Del("Evstream-Channels")
			if tt.channels != "" {
				w.Header().Set("Evstream-Channels", tt.channels)
			}
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte("body"))
			_ = http.NewResponseController(w).Flush()
		})
		if a != nil || err != nil || w.Code != tt.status || w.Body.String() != "body" || !w.Flushed || w.Header().Get("Evstream-Channels") != tt.channels {
			t.Errorf("%s: %v, %v, %d %q %v", tt.name, a, err, w.Code, w.Body, w.Header())
		}
	}
}

func TestAMalformedAnswerIsAnErrorAndNothingIsWritten(t *testing.T) {
	for _, tt := range []struct{ header, value, body, says string }{
		{"Evstream-Channels", "a,,b", "", "Evstream-Channels"},
		{"Evstream-Meta", "{", "", "JSON object"},
		{"Evstream-Meta", `"` + strings.Repeat("x", MaxMeta) + `"`, "", "at most 1024"},
		{"Evstream-Expires", "soon", "", "must be a time"},
		{"Evstream-User", strings.Repeat("x", 256), "", "at most 255"},
		{"Evstream-User", "Zo\xeb", "", "must be UTF-8"},
		{"Evstream-Last-Event-Id", strings.Repeat("1", 5000), "", "at most"},
		{"Content-Encoding", "gzip", "", "compressed"},
		{"X", "", "data: half", "whole events"},
		{"X", "", strings.Repeat(":\n", MaxBody), "more than"},
	} {
		w, a, err := ask(t, "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Evstream-Channels", "a")
			w.Header().Set("Set-Cookie", "a=b")
			w.Header().Set(tt.header, tt.value)
			_, _ = w.Write([]byte(tt.body))
		})
		var wrong *AnswerError
		if a != nil || !errors.As(err, &wrong) || !strings.Contains(err.Error(), tt.says) || len(w.Header()) != 0 || w.Body.Len() > 0 {
			t.Errorf("%s: %.40s: %v, %v, %v", tt.header, tt.value, a, err, w.Header())
		}
	}
}

// What comes before an answer, and after it, hands nothing over.
func TestOnlyTheHeaderOfTheAnswerCounts(t *testing.T) {
	w, a, err := ask(t, "GET", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Evstream-Channels", "a")
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		if w.Header().Get("Evstream-Channels") == "" {
			t.Error("the handler behind has lost a header")
		}
		w.Header().Del("Evstream-Channels")
		w.Header().Set("Trailer", "Evstream-Channels")
		_, _ = w.Write([]byte("body"))
		w.Header().Set("Evstream-Channels", "a")
	})
	if a != nil || err != nil || w.Body.String() != "body" {
		t.Errorf("%v, %v, %q", a, err, w.Body)
	}
}

func TestHEADHasTheHeaderOfTheStream(t *testing.T) {
	w, a, err := ask(t, "HEAD", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Evstream-Channels", "a")
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusOK)
	})
	h := w.Header()
	if a != nil || err != nil || h.Get("Evstream-Channels") != "" || h.Get("Content-Type") != "text/event-stream" || h.Get("Content-Length") != "" || h.Get("Set-Cookie") != "a=b" {
		t.Errorf("%v, %v, %v", a, err, h)
	}
}

// Any other method would hand over what the application has just changed.
func TestOtherMethodsCannotBeHandedOver(t *testing.T) {
	for _, method := range []string{"PUT", "DELETE", "OPTIONS"} {
		_, a, err := ask(t, method, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Evstream-Channels", "a")
			w.WriteHeader(200)
		})
		if wrong, ok := errors.AsType[*AnswerError](err); a != nil || !ok || !strings.Contains(wrong.Error(), "only GET and POST") {
			t.Errorf("%s: %v, %v", method, a, err)
		}
	}
}

// An application that does not end its answer is cut off, and told so in the log.
func TestAnAnswerHasToEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, app := range map[string]http.HandlerFunc{
			"waits": func(http.ResponseWriter, *http.Request) {},
			"proxy": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		} {
			_, a, err := ask(t, "GET", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Evstream-Channels", "a")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				app(w, r)
			})
			if a != nil || err == nil || !strings.Contains(err.Error(), "did not end within 10s") {
				t.Errorf("%s: %v, %v", name, a, err)
			}
		}
	})
}

// A proxy panics where its application dies, or where its client leaves.
func TestAnAnswerThatIsCutOffIsAnError(t *testing.T) {
	_, a, err := ask(t, "GET", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Evstream-Channels", "a")
		_, _ = w.Write([]byte("data: a\n\n"))
		panic(http.ErrAbortHandler)
	})
	if a != nil || err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("%v, %v", a, err)
	}
	for name, app := range map[string]http.HandlerFunc{
		"passes": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Del("Evstream-Channels")
			_, _ = w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		},
		"another panic": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Evstream-Channels", "a")
			w.WriteHeader(200)
			panic("a bug")
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic is lost", name)
				}
			}()
			_, _, _ = ask(t, "GET", app)
		}()
	}
}

// What the handler behind rewrites is its own affair.
func TestTheRequestIsKeptAsItWas(t *testing.T) {
	r := httptest.NewRequest("POST", "/a", strings.NewReader("body"))
	_, err := Ask(httptest.NewRecorder(), r, func(w http.ResponseWriter, r *http.Request) error {
		r.URL.Path = "/b"
		r.Header.Set("X", "1")
		return nil
	})
	if err != nil || r.URL.Path != "/a" || r.Header.Get("X") != "" {
		t.Errorf("%v, %s, %v", err, r.URL, r.Header)
	}
}
