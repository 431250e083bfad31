package stream

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dechunker reads a chunked body, whatever pieces it comes in. It accepts only what
// a detached stream may send: sizes in lower case without leading zeros, no
// extensions, no trailers.
type dechunker struct {
	line []byte // the size line, or the line that ends a chunk, as far as it has come
	left int    // bytes of the chunk that have not come yet
	data bool   // within a chunk, or before the line that ends it
	last bool   // the size was 0
	over bool   // the last chunk has come
}

// appendBody appends what p carries of the body, or what is wrong with it.
func (d *dechunker) appendBody(body, p []byte) []byte {
	for len(p) > 0 {
		if d.over {
			return fmt.Appendf(body, "(after the last chunk comes %q)", p)
		}
		if d.data && d.left > 0 {
			n := min(d.left, len(p))
			body, p, d.left = append(body, p[:n]...), p[n:], d.left-n
			continue
		}
		d.line = append(d.line, p[0])
		p = p[1:]
		if !bytes.HasSuffix(d.line, []byte("\r\n")) {
			if len(d.line) > maxChunkSize {
				return fmt.Appendf(body, "(a line of the framing begins with %q)", d.line)
			}
			continue
		}
		line := string(d.line[:len(d.line)-2])
		d.line = d.line[:0]
		if d.data || d.last {
			if line != "" {
				return fmt.Appendf(body, "(a chunk ends with %q)", line)
			}
			d.data, d.over = false, d.last
			continue
		}
		size, err := strconv.ParseUint(line, 16, 31)
		if err != nil || strconv.FormatUint(size, 16) != line {
			return fmt.Appendf(body, "(the size of a chunk is %q)", line)
		}
		d.left, d.data, d.last = int(size), size > 0, size == 0
	}
	return body
}

func TestTheBytesOfAChunk(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*chunk)
		want string
	}{
		"events":            {func(c *chunk) { c.set(nil, []byte("data: 1\n\n"), false) }, "9\r\ndata: 1\n\n\r\n"},
		"frames":            {func(c *chunk) { c.set([]byte(":\n"), nil, false) }, "2\r\n:\n\r\n"},
		"frames and events": {func(c *chunk) { c.set([]byte(":\n"), []byte("data: 23456789\n\n"), false) }, "12\r\n:\ndata: 23456789\n\n\r\n"},
		"the last frames":   {func(c *chunk) { c.set([]byte("retry: 2000\n"), nil, true) }, "c\r\nretry: 2000\n\r\n0\r\n\r\n"},
		"the last chunk":    {func(c *chunk) { c.setLast() }, "0\r\n\r\n"},
		"a large one":       {func(c *chunk) { c.set(nil, bytes.Repeat([]byte("x"), 0xabcde), false) }, "abcde\r\n" + strings.Repeat("x", 0xabcde) + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var c chunk
			tt.set(&c)
			if got := string(slices.Concat(c.pieces[:]...)); got != tt.want || c.left() != len(got) {
				t.Errorf("got %.100q, of which %d bytes are left", got, c.left())
			}
		})
	}
}

// What is left of a chunk is what was not written, wherever the write stopped, also
// when another chunk is set where it was.
func TestWhatIsLeftOfAChunk(t *testing.T) {
	frames, events := []byte(":\n"), []byte("data: 1\n\n")
	const all = "b\r\n:\ndata: 1\n\n\r\n0\r\n\r\n"
	for first := range len(all) + 1 {
		for second := range len(all) - first + 1 {
			var shared, rest chunk
			shared.set(frames, events, true)
			shared.written(first)
			rest.copyOf(&shared)
			shared.set(events, events, false)
			rest.written(second)
			if got := string(slices.Concat(rest.pieces[:]...)); got != all[first+second:] || rest.left() != len(got) {
				t.Fatalf("after %d and %d bytes %q is left", first, second, got)
			}
		}
	}
}
