package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

// decode gives a body pieces, and returns the data.
func decode(c body, text string, size int) (data string, err error) {
	for part := range slices.Chunk([]byte(text), size) {
		for len(part) > 0 {
			var some []byte
			some, part, err = c.next(part)
			if data += string(some); err != nil {
				return data, err
			}
		}
	}
	return data, nil
}

// Whatever the pieces, a body has the data that the standard library finds in it.
func TestABodyIsDecodedInAnyPieces(t *testing.T) {
	const data = "data: 1\n\n: a heartbeat\n\ndata: a longer one, of more than sixteen bytes\n\n"
	var wire bytes.Buffer
	w := httputil.NewChunkedWriter(&wire)
	for part := range slices.Chunk([]byte(data), 20) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"of the standard library": wire.String(),
		"with extensions":         fmt.Sprintf("0009;a=\"b\"\r\n%s\r\n3A; x\r\n%s\r\n%04x\r\n%s\r\n0\r\n", data[:9], data[9:67], len(data)-67, data[67:]),
	} {
		if want, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(text + "\r\n"))); err != nil || string(want) != data {
			t.Fatalf("%s is not a body: %v, %q", name, err, want)
		}
		for size := 1; size <= len(text); size++ {
			if got, err := decode(body{chunked: true}, text, size); got != data || !errors.Is(err, errEnded) {
				t.Errorf("%s in pieces of %d: %q, %v", name, size, got, err)
			}
		}
	}
	for size := 1; size <= len(data); size++ {
		if got, err := decode(body{left: -1}, data, size); got != data || err != nil {
			t.Errorf("without an end in pieces of %d: %q, %v", size, got, err)
		}
		if got, err := decode(body{left: 9}, data, size); got != data[:9] || !errors.Is(err, errEnded) {
			t.Errorf("of nine bytes in pieces of %d: %q, %v", size, got, err)
		}
	}
}

func TestWhatIsNoBodyIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"x\r\n":                   `the size of a chunk has 'x'`,
		"\r\n":                    "a chunk has no size",
		"3\r\nabcd":               "a chunk is longer than it says: 'd' follows it",
		"fffffffffffffffff\r\nab": `the size of a chunk has 'f'`,
		"data: 1\n\n":             `the size of a chunk has 't'`,
	} {
		if _, err := decode(body{chunked: true}, text, 2); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
