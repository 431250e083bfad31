package takeover

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// ask has an application answer one request.
func ask(t *testing.T, method string, app http.HandlerFunc) (*httptest.ResponseRecorder, *Answer, error) {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", nil)
	w.Header().Set("Evstream-Channels", "of-a-handler-in-front")
	r.Header.Set("Evstream-User", "forged")
	r.Header["evstream-channels"] = []string{"forged"}
	a, err := Ask(w, r, func(w http.ResponseWriter, r *http.Request) error {
		for name := range r.Header {
			if strings.HasPrefix(strings.ToLower(name), "evstream-") {
				t.Errorf("the application got %s of the client", name)
			}
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
		{"HEAD", "HEAD", 200, "a"},
		{"PUT", "PUT", 200, "a"},
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
