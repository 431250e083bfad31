package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// decode decodes the pieces of a response, and returns the body.
func decode(r *response, pieces ...[]byte) (body []byte, err error) {
	for _, b := range pieces {
		for len(b) > 0 {
			var piece []byte
			if piece, b, err = r.next(b); err != nil {
				return body, err
			}
			body = append(body, piece...)
		}
	}
	return body, nil
}

var responses = []struct {
	name, wire, body string
	ended            bool
}{
	{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n: hi\n\r\nB\r\ndata: abc\n\n\r\n", ": hi\ndata: abc\n\n", false},
	{"chunked, in other letters", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nX: y\r\n\r\n00a\r\n0123456789\r\n0\r\n\r\n", "0123456789", true},
	{"a chunk's extension, and a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n\r\n\r\n0\r\nA: b\r\n\r\n", "\r\n", true},
	{"until the connection ends", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n: hi\n\ndata: 5\r\n\r\n", ": hi\n\ndata: 5\r\n\r\n", false},
	{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{\r\n}", "{\r\n}", true},
	{"no body", "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "", true},
	{"no reason", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "x", true},
}

func TestAResponseIsTheSameInPiecesOfAnySize(t *testing.T) {
	for _, tt := range responses {
		t.Run(tt.name, func(t *testing.T) {
			wire := []byte(tt.wire)
			splits := [][][]byte{slices.Collect(slices.Chunk(wire, 1))}
			for i := range len(wire) + 1 {
				splits = append(splits, [][]byte{wire[:i], wire[i:]})
			}
			for i, pieces := range splits {
				var r response
				body, err := decode(&r, pieces...)
				if err != nil || string(body) != tt.body || (r.phase == ended) != tt.ended || r.status == 0 {
					t.Errorf("split %d: body %q, status %d, phase %d, %v", i, body, r.status, r.phase, err)
				}
			}
		})
	}
}

func TestAResponseThatIsNoneIsAnError(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for wire, want := range map[string]string{
		"HTTP/1.0 200 OK\r\n\r\n":                                "head cannot be read",
		"HTTP/1.1 20 OK\r\n\r\n":                                 "head cannot be read",
		"ICY 200 OK\r\n\r\n":                                     "head cannot be read",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n":                    "head cannot be read",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n":          "head cannot be read",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n":     "head cannot be read",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("a", maxHead):     "head is longer",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy":         "goes on after its end",
		chunked + "0\r\n\r\nx":                                   "goes on after its end",
		chunked + "g\r\n":                                        "not the size of a chunk",
		chunked + "\r\n":                                         "not the size of a chunk",
		chunked + "fffffffffffffffff\r\n":                        "not the size of a chunk",
		chunked + "1\nx\r\n":                                     "does not end in CR LF",
		chunked + "1\r\nxyz\r\n":                                 "a chunk is longer than its size",
		chunked + "1;" + strings.Repeat("a", maxLine) + "\r\n":   "line of the chunked body is longer",
		chunked + "1;" + strings.Repeat("a", maxLine-2) + "bcde": "line of the chunked body is longer",
	} {
		for _, size := range []int{1, 7, len(wire)} {
			_, err := decode(new(response), slices.Collect(slices.Chunk([]byte(wire), size))...)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%.80q in pieces of %d: %v, want %q", wire, size, err, want)
			}
		}
	}
}

// FuzzResponse splits a response and compares it with the whole, and what both
// read with what net/http does.
func FuzzResponse(f *testing.F) {
	for _, tt := range responses {
		f.Add([]byte(tt.wire), 3)
	}
	f.Fuzz(func(t *testing.T, wire []byte, size int) {
		var whole, split response
		body, err := decode(&whole, wire)
		size = min(max(size, 1), 100)
		body2, err2 := decode(&split, slices.Collect(slices.Chunk(wire, size))...)
		if !bytes.Equal(body, body2) || (err == nil) != (err2 == nil) || whole.phase != split.phase || whole.status != split.status {
			t.Fatalf("whole: %q, %v, %+v\nsplit: %q, %v, %+v", body, err, whole, body2, err2, split)
		}
		if err != nil || whole.phase != ended || whole.status != http.StatusOK {
			return
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(wire)), nil)
		if err != nil {
			return
		}
		defer r.Body.Close()
		if theirs, err := io.ReadAll(r.Body); err == nil && !bytes.Equal(theirs, body) {
			t.Fatalf("body %q, and of net/http %q", body, theirs)
		}
	})
}
