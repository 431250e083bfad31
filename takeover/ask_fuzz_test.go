package takeover

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
)

// Whatever an application says, it is a stream that can be served, or an error before
// anything was written.
func FuzzAnswer(f *testing.F) {
	f.Add("match.7, users/42", "ann", `{"name":"Ann"}`, "1-2", "2026-01-31T12:00:00Z", []byte("event: hi\nid: 1\ndata: x\n\n"))
	f.Add("**,,a", "\x00", "[]", "\x00", "0001-01-01T00:00:00Z", []byte("data: half"))
	f.Add(" a ", "Zo\xeb", `{"a":1e999}`, "evstream.end", "9999-12-31T23:59:59Z", []byte("id: 1-2\ndata\n\n: c\n\nretry: 1\n\n"))
	f.Fuzz(func(t *testing.T, channels, user, meta, id, expires string, body []byte) {
		w := httptest.NewRecorder()
		a, err := Ask(w, httptest.NewRequest("GET", "/", nil), func(w http.ResponseWriter, _ *http.Request) error {
			for name, value := range map[string]string{headerChannels: channels, headerUser: user, headerMeta: meta, headerLastEventID: id, headerExpires: expires} {
				w.Header()[name] = []string{value}
			}
			_, _ = w.Write(body)
			return nil
		})
		if len(w.Header()) > 0 || w.Body.Len() > 0 || w.Flushed {
			t.Fatalf("written: %v, %q", w.Header(), w.Body)
		}
		if err != nil {
			if _, ok := errors.AsType[*AnswerError](err); !ok || a != nil {
				t.Fatal(a, err)
			}
			return
		}
		if len(a.Channels) == 0 || len(a.User) > maxUser || len(a.Meta) > MaxMeta {
			t.Fatalf("%+v", a)
		}
		for _, name := range a.Channels {
			if _, err := channel.ParsePattern(name); err != nil {
				t.Error(err)
			}
		}
		for _, e := range a.Events {
			if err := broker.CheckEvent(&e); err != nil {
				t.Error(err)
			}
		}
	})
}
