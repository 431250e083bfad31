// Package starts reads from a request where in the history of its channels it begins.
package starts

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/duration"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// unknownCursor replaces a last event id that is too long. No event has it, because an
// id cannot contain NUL.
const unknownCursor = "\x00"

// Of reads where to begin. An invalid cursor is not an error, because clients send
// it by themselves; an invalid since or last is one.
func Of(r *http.Request, q query.Query, now time.Time) (start broker.Start, err error) {
	if start.LastEventID, err = CursorOf(r, q); err != nil {
		return start, err
	}
	since, given, err := q.One("since")
	if err != nil {
		return start, err
	}
	if given {
		if start.Since, start.Earliest, err = parseSince(since, now); err != nil {
			return start, err
		}
	}
	last, given, err := q.One("last")
	if err != nil {
		return start, err
	}
	if given {
		if start.Last, err = strconv.Atoi(last); err != nil || start.Last < 0 {
			return start, problem.BadParameter.Because("last is how many events to begin with, such as 10, not %q", problem.Clip(last))
		}
	}
	return start, nil
}

// CursorOf is the cursor that a client sends to resume from, "" for none. The error is
// about one that is given twice.
func CursorOf(r *http.Request, q query.Query) (string, error) {
	cursor := trimHeader(r.Header.Get("Last-Event-ID"))
	if cursor == "" {
		given, err := q.Cursor()
		if err != nil {
			return "", err
		}
		cursor = trimHeader(given)
	}
	if len(cursor) > sse.MaxID {
		return unknownCursor, nil
	}
	return cursor, nil
}

// trimHeader trims a cursor as HTTP/1.1 does a header field's value, wherever it comes
// from: HTTP/2 trims nothing.
func trimHeader(s string) string { return strings.Trim(s, " \t") }

// parseSince reads earliest, a duration or a time.
func parseSince(s string, now time.Time) (since time.Time, earliest bool, err error) {
	if s == "earliest" {
		return time.Time{}, true, nil
	}
	if ago, err := duration.Parse(s); err == nil && ago > 0 {
		return now.Add(-ago), false, nil
	}
	// In a query a plus sign is a space.
	at, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+"))
	if err != nil {
		return time.Time{}, false, problem.BadParameter.Because(
			"since is earliest, a duration such as 30s, or a time such as 2026-01-31T12:00:00Z, not %q", problem.Clip(s))
	}
	if at.After(now) {
		return time.Time{}, false, nil // a client whose clock is ahead begins now
	}
	return at, false, nil
}
