package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Value is the value of a channel.
type Value struct {
	JSON    json.RawMessage // nil if there is none
	Version string          // "" where it is not told
}

// Decode decodes the value into v.
func (v Value) Decode(into any) error {
	if v.JSON == nil {
		return errors.New("the channel has no value")
	}
	return json.Unmarshal(v.JSON, into)
}

// Write says on what condition a value is written, and how. The zero Write has no
// condition.
type Write struct {
	// IfVersion writes only if the value has that version; "*" only if there is a
	// value. IfAbsent writes only if there is none.
	IfVersion string
	IfAbsent  bool
	// Session binds the value to a session: it is removed when that ends.
	Session string
	// Key is the idempotency key. By default the client makes one; see Options.NoKeys.
	Key string
}

// Kinds of patches, for [Client.PatchValue].
const (
	MergePatch = "application/merge-patch+json" // RFC 7396
	JSONPatch  = "application/json-patch+json"  // RFC 6902
)

// KindNoState is the Kind of the error where a channel has no value, KindConflict of one
// where a patch does not fit it, and KindPreconditionFailed where a condition does not
// hold.
const (
	KindNoState            = "no-state"
	KindConflict           = "conflict"
	KindPreconditionFailed = "precondition-failed"
)

// Value reads the value of a channel. If there is none, the Kind of the error is
// KindNoState.
func (c *Client) Value(ctx context.Context, channel string) (Value, error) {
	path, err := channelPath(channel)
	if err != nil {
		return Value{}, err
	}
	got, err := c.send(ctx, call{method: http.MethodGet, path: path, safe: true}, nil)
	if err != nil {
		return Value{}, err
	}
	return Value{slices.Clip(trimLine(got.body)), versionOf(got.header)}, nil
}

// trimLine removes the line end of a document.
func trimLine(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}

// SetValue sets the value of a channel. A json.RawMessage is written as it is, anything
// else is encoded. It returns the value's version.
func (c *Client) SetValue(ctx context.Context, channel string, value any, w Write) (version string, err error) {
	body, ok := value.(json.RawMessage)
	if !ok {
		if body, err = json.Marshal(value); err != nil {
			return "", fmt.Errorf("encoding the value: %w", err)
		}
	}
	done, err := c.writeValue(ctx, channel, w, call{method: http.MethodPut, body: body, header: http.Header{"Content-Type": {"application/json"}}})
	return done.Version, err
}

// PatchValue changes the value of a channel by a patch; kind is MergePatch or JSONPatch.
// It returns the value's version.
func (c *Client) PatchValue(ctx context.Context, channel, kind string, patch any, w Write) (version string, err error) {
	if kind != MergePatch && kind != JSONPatch {
		return "", fmt.Errorf("a patch is of type %s or %s, not %q", MergePatch, JSONPatch, kind)
	}
	body, ok := patch.(json.RawMessage)
	if !ok {
		if body, err = json.Marshal(patch); err != nil {
			return "", fmt.Errorf("encoding the patch: %w", err)
		}
	}
	done, err := c.writeValue(ctx, channel, w, call{method: http.MethodPatch, body: body, header: http.Header{"Content-Type": {kind}}})
	return done.Version, err
}

// AddToValue adds a number, such as "1" or "-0.5", to the value of a channel, which is a
// number too, or absent. It returns the sum.
func (c *Client) AddToValue(ctx context.Context, channel string, n json.Number, w Write) (Value, error) {
	return c.writeValue(ctx, channel, w, call{method: http.MethodPatch, query: url.Values{"incr": {n.String()}}})
}

// DeleteValue removes the value of a channel. If there is none, the Kind of the error is
// KindNoState. Write.Session is not used.
func (c *Client) DeleteValue(ctx context.Context, channel string, w Write) error {
	_, err := c.writeValue(ctx, channel, w, call{method: http.MethodDelete})
	return err
}

// writeValue sends a write of a value.
func (c *Client) writeValue(ctx context.Context, channel string, w Write, call call) (Value, error) {
	if w.IfVersion != "" && w.IfAbsent {
		return Value{}, errors.New("IfVersion and IfAbsent exclude each other")
	}
	var err error
	if call.path, err = channelPath(channel); err != nil {
		return Value{}, err
	}
	if call.header == nil {
		call.header = http.Header{}
	}
	if w.IfVersion != "" {
		call.header.Set("If-Match", etag(w.IfVersion))
	}
	if w.IfAbsent {
		call.header.Set("If-None-Match", "*")
	}
	if w.Session != "" && call.method != http.MethodDelete {
		if call.query == nil {
			call.query = url.Values{}
		}
		call.query.Set("session", w.Session)
	}
	call.key = c.keyed(w.Key)
	var doc struct {
		ID    string          `json:"id"`
		Value json.RawMessage `json:"value"`
	}
	if _, err := c.send(ctx, call, &doc); err != nil {
		return Value{}, err
	}
	return Value{doc.Value, doc.ID}, nil
}

// maxUpdates bounds how often Update begins anew.
const maxUpdates = 100

// Update changes the value of a channel by a function of the value that there is, the
// zero T if there is none, and returns what was written. If somebody else writes in
// between, the function is called again with the new value, so that no change is lost.
func Update[T any](ctx context.Context, c *Client, channel string, change func(T) (T, error)) (T, error) {
	for attempt := range maxUpdates {
		var value T
		w := Write{IfAbsent: true}
		switch old, err := c.Value(ctx, channel); {
		case Kind(err) == KindNoState:
		case err != nil:
			return value, err
		default:
			if err := old.Decode(&value); err != nil {
				return value, fmt.Errorf("channel %q: %w", channel, err)
			}
			w = Write{IfVersion: old.Version}
		}
		next, err := change(value)
		if err != nil {
			return value, err
		}
		if _, err = c.SetValue(ctx, channel, next, w); Kind(err) != KindPreconditionFailed {
			return next, err
		}
		if err := sleep(ctx, rand.N(time.Duration(min(attempt+1, 20))*5*time.Millisecond)); err != nil { //nolint:gosec // it spreads load and guards nothing
			return next, err
		}
	}
	var none T
	return none, fmt.Errorf("channel %q: others have written its value %d times meanwhile", channel, maxUpdates)
}

// Watch yields the value of a channel, and then each newer one, until ctx ends, the
// channel is closed, or it fails for good. First comes the value that there is, or one
// without JSON if there is none. Patches are applied. A reader that is slow gets the
// newest value only, and one that was cut gets what it has missed in the same way. Of o
// only MustConnect, GiveUp and what bounds a connection are used.
func (c *Client) Watch(ctx context.Context, channel string, o SubscribeOptions) iter.Seq2[Value, error] {
	o.Channels, o.Types, o.Notices = []string{channel}, []string{channel}, true
	o.LastEventID, o.Since, o.Last, o.Presence = "", "", 0, false
	return func(yield func(Value, error) bool) {
		if strings.Contains(channel, "*") {
			yield(Value{}, fmt.Errorf("%q is a pattern: the value of one channel can be watched; Subscribe reads those of many", channel))
			return
		}
		s := c.Subscribe(ctx, o)
		defer s.Close()
		told, present := false, false // the last value that was yielded, if any
		for e, err := range s.All() {
			if _, gap := errors.AsType[*GapError](err); gap {
				continue // the value is told again
			}
			if err != nil {
				yield(Value{}, err)
				return
			}
			// A value may have gone without a word, with the process of a hub in memory.
			gone := e.Kind == KindOpen && !slices.Contains(e.Open.Values, channel)
			if e.Kind != KindValue && !gone || told && !present && e.Value == nil {
				continue
			}
			told, present = true, e.Value != nil
			v := Value{JSON: e.Value}
			if e.Kind == KindValue {
				v.Version = e.ID
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}
