// Package takeover turns the answer of an application into a stream of a hub: the
// application decides, and its request is over at once.
package takeover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/takeover/internal/answers"
)

// The headers with which an application hands its answer over.
const (
	prefix            = "Evstream-"
	fields            = answers.Fields(prefix)
	headerChannels    = prefix + "Channels"
	headerUser        = prefix + "User"
	headerMeta        = prefix + "Meta"
	headerLastEventID = prefix + "Last-Event-Id"
	headerExpires     = prefix + "Expires"
)

// Bounds of an answer.
const (
	MaxMeta     = presence.MaxMeta // bytes of Evstream-Meta
	MaxBody     = 256 << 10        // bytes of first events
	maxUser     = 255
	maxChannels = 10_000 // a backstop: the hub has a limit of its own
)

// Answer is what an application says of a stream that it hands over.
type Answer struct {
	Channels    []string        // names and patterns, each once; at least one
	User        string          // "" for none
	Meta        json.RawMessage // of presence.CheckMeta; nil for none
	Claims      map[string]any  // the members of Meta, for filters
	LastEventID string          // where the stream begins; "" if the client decides
	Expires     time.Time       // when the stream has to end; zero: never
	Events      []sse.Event     // that the client gets first
}

// read reads the headers of an answer. Errors say which header is wrong, for the log.
func read(h http.Header) (*Answer, error) {
	a := new(Answer)
	seen := make(map[string]bool)
	for _, line := range h[headerChannels] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.Trim(name, " \t")
			if _, err := channel.ParsePattern(name); err != nil {
				return nil, fmt.Errorf("%s: %w", headerChannels, err)
			}
			if !seen[name] {
				seen[name] = true
				a.Channels = append(a.Channels, name)
			}
		}
	}
	if len(a.Channels) > maxChannels {
		return nil, fmt.Errorf("%s has %d channels, at most %d are allowed", headerChannels, len(a.Channels), maxChannels)
	}
	var err error
	if a.User, err = one(h, headerUser); err != nil {
		return nil, err
	}
	switch {
	case len(a.User) > maxUser:
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", headerUser, len(a.User), maxUser)
	case !utf8.ValidString(a.User) || strings.ContainsFunc(a.User, unicode.IsControl):
		return nil, fmt.Errorf("%s must be UTF-8 without control characters, not %q", headerUser, problem.Clip(a.User))
	}
	meta, err := one(h, headerMeta)
	if err != nil {
		return nil, err
	}
	if meta != "" {
		if a.Meta, err = presence.CheckMeta([]byte(meta)); err != nil {
			return nil, fmt.Errorf("%s: %w", headerMeta, err)
		}
		d := json.NewDecoder(bytes.NewReader(a.Meta))
		d.UseNumber()
		if err := d.Decode(&a.Claims); err != nil {
			return nil, fmt.Errorf("%s: %w", headerMeta, err)
		}
	}
	if a.LastEventID, err = one(h, headerLastEventID); err != nil {
		return nil, err
	}
	if len(a.LastEventID) > sse.MaxID {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", headerLastEventID, len(a.LastEventID), sse.MaxID)
	}
	expires, err := one(h, headerExpires)
	if err != nil {
		return nil, err
	}
	if expires != "" {
		if a.Expires, err = time.Parse(time.RFC3339, expires); err != nil || a.Expires.IsZero() {
			return nil, fmt.Errorf("%s must be a time such as 2026-01-31T12:00:00Z, not %q", headerExpires, problem.Clip(expires))
		}
	}
	return a, nil
}

// one is the value of a header that may be given once.
func one(h http.Header, name string) (string, error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", fmt.Errorf("%s is given %d times, once is allowed", name, len(values))
	}
}

// readEvents reads a body of first events.
func (a *Answer) readEvents(body []byte) error {
	for d := sse.NewDecoder(bytes.NewReader(body), MaxBody); ; {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			if !broker.UsableID(e.ID) {
				e.ID = "" // the client could not resume from it
			}
			err = broker.CheckEvent(&e)
		}
		if err != nil {
			return fmt.Errorf("the body is not a list of whole events: %w", err)
		}
		a.Events = append(a.Events, e)
	}
}
