package evstream

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/httpapi"
)

// blocks are what golden files have between the braces after evstream, to
// begin with.
func blocks(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(data), "----------\n")
		for part := range strings.SplitSeq(input, "evstream ") {
			f.Add(part)
		}
	}
	f.Add("{\n\tallow claim a b subscribe {user}/{claims.x}/**\n\tcors https://*.example.com\n}")
	f.Add("{\n\tallow @x all **\n}")
}

// unmarshaled reads a Caddyfile's tokens. What cannot be read says where.
func unmarshaled(t *testing.T, input string, into caddyfile.Unmarshaler) bool {
	t.Helper()
	tokens, err := caddyfile.Tokenize([]byte("evstream "+input), "Caddyfile")
	if err != nil {
		return false
	}
	if err := into.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
		if !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%q: the error does not say where: %v", input, err)
		}
		return false
	}
	return true
}

// same fails the test if a configuration is not, in JSON, what it was.
func same(t *testing.T, got, again any) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.StrictUnmarshalJSON(b, again); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if b2, err := json.Marshal(again); err != nil || string(b2) != string(b) {
		t.Errorf("%s becomes %s, %v", b, b2, err)
	}
}

// FuzzDirective: a directive is refused with its place, or becomes a handler
// whose settings and rules are good, and that JSON can hold.
func FuzzDirective(f *testing.F) {
	blocks(f)
	f.Fuzz(func(t *testing.T, input string) {
		h := new(Handler)
		if !unmarshaled(t, input, h) {
			return
		}
		if _, err := h.settings(); err != nil {
			t.Errorf("%q: %v", input, err)
		}
		if len(h.Allow) == 0 {
			t.Errorf("%q: there is no rule", input)
		}
		c := h.authConfig()
		if err := auth.CheckBearers(h.Bearers); err != nil {
			t.Errorf("%q: %v", input, err)
		}
		for i := range h.Allow {
			r := h.Allow[i].rule()
			if err := r.Check(c.BearerNames()); err != nil {
				t.Errorf("%q: %v", input, err)
			}
		}
		if err := httpapi.CheckCORS(h.CORS); err != nil {
			t.Errorf("%q: %v", input, err)
		}
		same(t, h, new(Handler))
	})
}

// FuzzOption: a global option is refused with its place, or becomes a broker
// whose bounds are good, and that JSON can hold.
func FuzzOption(f *testing.F) {
	blocks(f)
	f.Fuzz(func(t *testing.T, input string) {
		c := new(BrokerConfig)
		if !unmarshaled(t, input, c) {
			return
		}
		s, err := c.settings()
		if err != nil {
			t.Errorf("%q: %v", input, err)
		}
		again := new(BrokerConfig)
		same(t, c, again)
		if s2, err := again.settings(); err != nil || !reflect.DeepEqual(s, s2) {
			t.Errorf("%q: %+v in JSON is %+v, %v", input, s, s2, err)
		}
	})
}
