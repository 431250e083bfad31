package answers

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const fields = Fields("Grip-")

func TestFieldsAreKnownInEachSpelling(t *testing.T) {
	for name, want := range map[string]bool{
		"Grip-Hold": true, "grip-hold": true, "GRIP_HOLD": true, "Grip.Sig": true, "Grip-": true,
		"Grip": false, "Grips": false, "Gripe-Hold": false, "Grip2": false, "X-Grip-Hold": false, "": false,
	} {
		if got := fields.Has(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	h := http.Header{"GRIP_HOLD": {"a"}, "Grips": {"b"}}
	if !fields.In(h) {
		t.Error("it is not found in a header")
	}
	if fields.Remove(h); len(h) != 1 || h.Get("Grips") != "b" {
		t.Errorf("left: %v", h)
	}
}

// trailed is a body after which trailers come that nobody has announced, as a server adds
// them.
type trailed struct {
	io.Reader
	to *http.Request
}

func (b trailed) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.to.Trailer.Set("Grip-Sig", "forged")
		b.to.Trailer.Set("X-Sum", "1")
	}
	return n, err
}

func (trailed) Close() error { return nil }

// What a client sends among the fields of a dialect does not get to the application,
// neither before nor after its body, and an answer without them passes.
func TestTheFieldsOfAClientAreRemoved(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Grip-Sig", "forged")
	r.Trailer = http.Header{"Grip-Hold": {"forged"}}
	r.Body = trailed{strings.NewReader("x"), r}
	w := httptest.NewRecorder()
	w.Header().Set("Grip-Hold", "of a handler in front")
	d := &Dialect{Fields: fields, Prepare: func(r *http.Request) { r.Header.Set("X-Prepared", "yes") }, Decide: func(status int, h http.Header) (int, bool, error) {
		return status, fields.In(h), nil
	}}
	held, err := Ask(w, r, d, func(w http.ResponseWriter, r *http.Request) error {
		_, _ = io.Copy(io.Discard, r.Body)
		if fields.In(r.Header) || fields.In(r.Trailer) || r.Header.Get("X-Prepared") != "yes" || r.Trailer.Get("X-Sum") != "1" {
			t.Errorf("the application got %v, and after the body %v", r.Header, r.Trailer)
		}
		_, err := io.WriteString(w, "hello")
		return err
	})
	if held != nil || err != nil || w.Body.String() != "hello" || fields.In(w.Header()) {
		t.Errorf("%+v, %v; the client got %v %q", held, err, w.Header(), w.Body)
	}
}

// An error of the handler behind is that of the request, and leaves the header as it was.
func TestAFailureWhileAnAnswerIsHeldBack(t *testing.T) {
	failure := errors.New("it failed")
	w := httptest.NewRecorder()
	w.Header().Set("X-Front", "1")
	d := &Dialect{Fields: fields, MaxBody: 3, TooLong: errors.New("too long"), Decide: func(status int, h http.Header) (int, bool, error) {
		return status, fields.In(h), nil
	}}
	for _, tt := range []struct {
		body string
		want error // of what is held; else Ask fails
	}{{"abc", nil}, {"abcd", d.TooLong}} {
		held, err := Ask(w, httptest.NewRequest(http.MethodGet, "/", nil), d, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Grip-Hold", "stream")
			_, _ = io.WriteString(w, tt.body)
			return failure
		})
		if tt.want == nil && (held != nil || !errors.Is(err, failure)) || tt.want != nil && (held == nil || !errors.Is(held.Err, tt.want) || err != nil) {
			t.Errorf("%s: %+v, %v", tt.body, held, err)
		}
		if len(w.Header()) != 1 || w.Body.Len() > 0 {
			t.Errorf("%s: the client got %v %q", tt.body, w.Header(), w.Body)
		}
	}
}
