package httpapi

import (
	"encoding/json"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

// FuzzItem checks that what is read from an item can be published, or says why not.
func FuzzItem(f *testing.F) {
	for _, s := range []string{
		`{"channel":"a"}`, `{"channels":["a","b/"],"data":{"x":1.0}}`, `{"channel":"a","data":"\ud83d\ude00","retry":1}`,
		`null`, `[]`, `{"channel":"a","data":"\\ud83d"}`, `{"channel":"a","id":"\u0000","event":"\n","except":"x"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		channels, op, err := parseItem(body)
		if err != nil {
			if p := problem.Of(err); p.Kind == problem.Internal || p.Status() >= 500 {
				t.Fatalf("%s", err)
			}
			return
		}
		if !json.Valid(body) || len(channels) == 0 {
			t.Fatalf("%q was read as %q", body, channels)
		}
		if op.Kind != broker.KindEvent || !utf8.Valid(op.Event.Data) || !utf8.ValidString(fmt.Sprint(op.Event.Type, op.Event.ID, channels)) {
			t.Fatalf("%q was read as %+v", body, op)
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		if s, ok := members["data"].(string); ok && s != string(op.Event.Data) {
			t.Fatalf("data %q was read as %q", s, op.Event.Data)
		} else if !ok && len(op.Event.Data) > 0 && !json.Valid(op.Event.Data) {
			t.Fatalf("data became %q", op.Event.Data)
		}
	})
}
