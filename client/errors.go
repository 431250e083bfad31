package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Error is an answer that is an error: a problem of the hub (RFC 9457), or what a server
// before it, or in its place, says.
type Error struct {
	Status int // of HTTP
	// Kind is the kind of problem, such as "forbidden" or "closed": docs/http.md lists
	// them. It is empty if the answer is not of a hub.
	Kind   string
	Title  string
	Detail string // what was wrong, for people

	// Published is how much of a request with many events was published before the
	// problem, LastID the id of the last of these, and Line and Event where in the
	// request the problem is, from 1; 0 for none.
	Published   int
	LastID      string
	Line, Event int
	// Pointer is the JSON Pointer (RFC 6901) of what is wrong in a value or the data,
	// and Operation the operation of a patch, from 0; nil for none.
	Pointer   *string
	Operation *int

	// RetryAfter is how long the server asks to wait; 0 if it does not say.
	RetryAfter time.Duration
	// Version is that of the channel's value, if a condition did not hold.
	Version string

	unknown bool   // the outcome may be that it was done
	from    string // the scheme and the host that have answered
}

// problemURN precedes the kind of a problem.
const problemURN = "urn:evstream:problem:"

// Error says what was wrong.
func (e *Error) Error() string {
	switch {
	case e.Kind == "":
		return fmt.Sprintf("%s answers %d %s, and is not an evstream hub there: %s", e.from, e.Status, http.StatusText(e.Status), e.Detail)
	case e.Detail == "":
		return fmt.Sprintf("%s (%d %s)", e.Title, e.Status, e.Kind)
	}
	return fmt.Sprintf("%s (%d %s)", e.Detail, e.Status, e.Kind)
}

// Temporary reports whether the same request may succeed later: the hub is over a limit,
// not ready, or out of reach of what is before it. Whether it is safe to try a write
// again is another question, see UnknownError.
func (e *Error) Temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Kind returns the kind of the problem that err is, "" if it is none.
func Kind(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// UnknownError says that a write may or may not have been done: its answer was lost.
// With the same Key and the same content it can be tried again for five minutes, and is
// done once.
type UnknownError struct {
	Key string // "" if the write had none
	Err error  // of the last attempt
}

func (e *UnknownError) Error() string {
	return "the outcome is unknown, it may have been done: " + e.Err.Error()
}

func (e *UnknownError) Unwrap() error { return e.Err }

// problemDoc is a problem document.
type problemDoc struct {
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Detail    string  `json:"detail"`
	Outcome   string  `json:"outcome"`
	Published int     `json:"published"`
	ID        string  `json:"id"`
	Line      int     `json:"line"`
	Event     int     `json:"event"`
	Operation *int    `json:"operation"`
	Pointer   *string `json:"pointer"`
}

// maxProblem bounds the body of an error.
const maxProblem = 64 << 10

// errorOf reads the answer that is an error.
func errorOf(resp *http.Response) *Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // what there is of it
	e := &Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	if u := resp.Request.URL; u != nil {
		e.from = u.Scheme + "://" + u.Host
	}
	e.Version = versionOf(resp.Header)
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var doc problemDoc
	kind, ours := "", false
	if media == "application/problem+json" && json.Unmarshal(body, &doc) == nil {
		kind, ours = strings.CutPrefix(doc.Type, problemURN)
	}
	if !ours {
		// A proxy that has lost the hub does not know either what became of a request.
		e.unknown = resp.StatusCode >= 500
		e.Detail = describe(media, body)
		return e
	}
	e.Kind, e.Title, e.Detail = kind, doc.Title, doc.Detail
	e.Published, e.LastID, e.Line, e.Event = doc.Published, doc.ID, doc.Line, doc.Event
	e.Operation, e.Pointer = doc.Operation, doc.Pointer
	e.unknown = doc.Outcome == "unknown" || kind == "internal"
	return e
}

// describe says what a body is that is none of a hub's.
func describe(media string, body []byte) string {
	text := strings.TrimSpace(string(body))
	switch {
	case text == "":
		return "the answer is empty"
	case media == "text/plain":
		line, _, _ := strings.Cut(text, "\n")
		return strconv.Quote(clip(strings.TrimSpace(line), 200))
	case media == "":
		return "the answer has no type"
	}
	return "the answer is " + media
}

// clip shortens text of a server for a message.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// maxRetryAfter bounds how long a server has a client wait.
const maxRetryAfter = 5 * time.Minute

// retryAfter reads the header field: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// plainly is an error of the HTTP client without its URL, in which a ticket may stand.
func plainly(err error, u *url.URL) error {
	e, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	if _, dialed := errors.AsType[*net.OpError](e.Err); dialed { // which says the address
		return e.Err
	}
	return fmt.Errorf("%s: %w", u.Host, e.Err)
}

// versionOf is the version in an ETag, "" for none.
func versionOf(h http.Header) string { return strings.Trim(h.Get("ETag"), `"`) }
