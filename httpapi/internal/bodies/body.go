package bodies

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// whole is the largest Content-Length for which memory is taken in advance.
const whole = 64 << 10

// Kind is how a body is read.
type Kind uint8

// The kinds.
const (
	Raw    Kind = iota // whatever it is: one event's data
	Lines              // application/x-ndjson and its other names
	Events             // text/event-stream
)

// linesTypes are the media types of a body of lines.
var linesTypes = []string{
	"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
	"application/jsonlines", "application/x-jsonlines",
}

// KindOf reads the Content-Type. Any type that is not a stream of events is
// Raw, also application/x-www-form-urlencoded, which curl -d always sends.
func KindOf(r *http.Request) Kind {
	media := mediaOf(r)
	switch {
	case media == "":
		return Raw
	case slices.ContainsFunc(linesTypes, func(lines string) bool { return strings.EqualFold(media, lines) }):
		return Lines
	case strings.EqualFold(media, "text/event-stream"):
		return Events
	}
	return Raw
}

// mediaOf is the media type of a body, as the request spells it.
func mediaOf(r *http.Request) string {
	values := r.Header["Content-Type"]
	if len(values) == 0 {
		return ""
	}
	media, _, _ := strings.Cut(values[0], ";")
	return strings.TrimSpace(media)
}

// CheckForm refuses the fields of a form, which would be published as they are encoded.
// curl -d names that type for any text, so the text must be nothing but fields.
func CheckForm(r *http.Request, body []byte) error {
	media := mediaOf(r)
	if strings.EqualFold(media, "multipart/form-data") || strings.EqualFold(media, "application/x-www-form-urlencoded") && isForm(body) {
		return problem.BadMedia.Because("the body is the fields of a form; here the path names the channel, the body is the data, and ?event=, ?id= and ?retry= are the rest. To publish it as the text that it is, send Content-Type: text/plain")
	}
	return nil
}

// isForm reports whether a text is fields as a browser encodes them: names, and of at
// least one a value.
func isForm(body []byte) bool {
	valued := false
	for field := range bytes.SplitSeq(body, []byte("&")) {
		name, value, found := bytes.Cut(field, []byte("="))
		if !found || len(name) == 0 || len(name) > 64 || name[0] != '_' && (name[0]|0x20 < 'a' || name[0]|0x20 > 'z') {
			return false
		}
		for _, c := range field {
			if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !bytes.ContainsRune([]byte("*-._+%=[]"), rune(c)) {
				return false
			}
		}
		if bytes.ContainsAny(name, "+*") || bytes.IndexByte(value, '=') >= 0 {
			return false
		}
		valued = valued || len(value) > 0
	}
	return valued
}

// Read reads a body of at most limit bytes.
func Read(r *http.Request, limit int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	if n := r.ContentLength; n > 0 && n <= whole {
		body := make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, Problem(err, limit)
		}
		return body, nil
	}
	// The body is longer than whole or its length is unknown: take memory as
	// the bytes Arrive.
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)))
	if err != nil {
		return nil, Problem(err, limit)
	}
	if len(body) == limit {
		// The limit was reached, not the end: the body may go on, or be cut here.
		switch n, err := io.ReadFull(r.Body, make([]byte, 1)); {
		case n > 0:
			return nil, tooLarge(limit)
		case !errors.Is(err, io.EOF):
			return nil, Problem(err, limit)
		}
	}
	return body, nil
}

func tooLarge(limit int) *problem.Error {
	return problem.TooLarge.Because("the body has more than %d bytes, which is what is allowed", limit)
}

// Problem is the problem of an error of reading a body.
func Problem(err error, limit int) *problem.Error {
	if p, ok := errors.AsType[*problem.Error](err); ok {
		return p
	}
	if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(int(over.Limit))
	}
	switch {
	case errors.Is(err, sse.ErrTooLong):
		return problem.TooLarge.Because("an event has more than %d bytes, which is what is allowed", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.Timeout.Because("the body did not Arrive in time")
	}
	return problem.BadBody.Because("the body ended before it was whole")
}
