package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
)

// Bounds of a response's head, and of a line within a chunked body.
const (
	maxHead = 16 << 10
	maxLine = 1 << 10
)

// phase is what the next byte of a response belongs to.
type phase uint8

const (
	inHead     phase = iota
	inBody           // a body that is not chunked
	inSize           // the line that tells the size of a chunk
	inChunk          // a chunk
	afterChunk       // the line end that follows it
	inTrailer        // what follows the last chunk
	ended
)

// response decodes an HTTP/1.1 response that arrives in pieces of any size.
// Its zero value is ready for one.
type response struct {
	phase  phase
	status int
	left   int64  // missing bytes of the body or the chunk; -1: until the connection ends
	kept   []byte // the head so far, or the beginning of a line that is not complete
}

// next returns the first part of the body in b, which may be empty, and the rest of
// b. Both share the memory of b.
func (r *response) next(b []byte) (body, rest []byte, err error) {
	switch r.phase {
	case inHead:
		rest, err = r.head(b)
	case inBody, inChunk:
		body, rest = r.body(b)
	case ended:
		err = fmt.Errorf("the response goes on after its end: %q", clip(b))
	default:
		rest, err = r.line(b)
	}
	return body, rest, err
}

// head reads up to the empty line that ends the head.
func (r *response) head(b []byte) (rest []byte, err error) {
	looked := max(0, len(r.kept)-3) // the empty line may have begun before b
	before := len(r.kept)
	r.kept = append(r.kept, b...)
	i := bytes.Index(r.kept[looked:], []byte("\r\n\r\n"))
	if i < 0 {
		if len(r.kept) > maxHead {
			return nil, fmt.Errorf("the response's head is longer than %d bytes", maxHead)
		}
		return nil, nil
	}
	end := looked + i + 4
	if err := r.parse(r.kept[:end]); err != nil {
		return nil, fmt.Errorf("%w: %q", err, clip(r.kept))
	}
	r.kept = r.kept[:0]
	return b[end-before:], nil
}

var errHead = errors.New("the response's head cannot be read")

// parse reads the status, and how the end of the body is marked.
func (r *response) parse(head []byte) error {
	text := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	line, err := text.ReadLine()
	if err != nil {
		return errHead
	}
	version, line, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(line, " ")
	if r.status, err = strconv.Atoi(code); err != nil || version != "HTTP/1.1" || len(code) != 3 {
		return errHead
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return errHead
	}
	if coding := header.Get("Transfer-Encoding"); coding != "" {
		if coding != "chunked" {
			return errHead
		}
		r.phase = inSize
		return nil
	}
	r.phase, r.left = inBody, -1
	if length := header.Get("Content-Length"); length != "" {
		n, err := strconv.ParseUint(length, 10, 62)
		if err != nil {
			return errHead
		}
		if r.left = int64(n); n == 0 {
			r.phase = ended
		}
	}
	return nil
}

// body reads what b has of the body or the chunk.
func (r *response) body(b []byte) (body, rest []byte) {
	if r.left < 0 {
		return b, nil
	}
	n := min(int64(len(b)), r.left)
	if r.left -= n; r.left > 0 {
		return b, nil
	}
	if r.phase == inChunk {
		r.phase = afterChunk
	} else {
		r.phase = ended
	}
	return b[:n], b[n:]
}

// line reads up to the end of a line within a chunked body.
func (r *response) line(b []byte) (rest []byte, err error) {
	i := bytes.IndexByte(b, '\n')
	if len(r.kept)+max(i, 0) > maxLine || i < 0 && len(r.kept)+len(b) > maxLine {
		return nil, fmt.Errorf("a line of the chunked body is longer than %d bytes", maxLine)
	}
	if i < 0 {
		r.kept = append(r.kept, b...)
		return nil, nil
	}
	line := b[:i]
	if len(r.kept) > 0 {
		r.kept = append(r.kept, line...)
		line = r.kept
		r.kept = r.kept[:0]
	}
	line, ok := bytes.CutSuffix(line, []byte("\r"))
	if !ok {
		return nil, fmt.Errorf("a line of the chunked body does not end in CR LF: %q", clip(line))
	}
	return b[i+1:], r.lineRead(line)
}

// lineRead takes a whole line, and sets the phase of what follows it.
func (r *response) lineRead(line []byte) error {
	switch r.phase {
	case inSize:
		digits, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(digits), 16, 62)
		if err != nil {
			return fmt.Errorf("%q is not the size of a chunk", clip(line))
		}
		if r.left, r.phase = int64(n), inChunk; n == 0 {
			r.phase = inTrailer
		}
	case afterChunk:
		if len(line) > 0 {
			return fmt.Errorf("a chunk is longer than its size: %q follows", clip(line))
		}
		r.phase = inSize
	default: // the trailer
		if len(line) == 0 {
			r.phase = ended
		}
	}
	return nil
}

// clip shortens what is quoted in an error.
func clip(b []byte) []byte { return b[:min(len(b), 200)] }
