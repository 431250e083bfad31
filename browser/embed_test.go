package browser

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// TestTheClientIsSmall keeps the promise of docs/browser.md.
func TestTheClientIsSmall(t *testing.T) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write([]byte(Client())); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() >= 3<<10 {
		t.Errorf("with gzip evstream.min.js has %d bytes, which is not less than %d", b.Len(), 3<<10)
	}
}

// TestTheClientIsMadeOfItsSource has "make client" not be forgotten. That it makes just
// these bytes, the tests of clients say, which have esbuild.
func TestTheClientIsMadeOfItsSource(t *testing.T) {
	source, err := os.ReadFile("evstream.js")
	if err != nil {
		t.Fatal(err)
	}
	of, err := os.ReadFile("evstream.min.js.of")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(source)
	if !strings.HasPrefix(string(of), hex.EncodeToString(sum[:])+" ") {
		t.Error("evstream.min.js is not made of evstream.js as that is now: run make client")
	}
}

// TestTheTypesHaveWhatTheScriptHas compares the names of both.
func TestTheTypesHaveWhatTheScriptHas(t *testing.T) {
	for _, name := range []string{"connect(", "token?:", "share?:", "credentials?:", "state:", "on(", "value<", "presence(", "reopen(", "close("} {
		if !strings.Contains(Types(), name) {
			t.Errorf("evstream.d.ts does not have %s", name)
		}
	}
}
