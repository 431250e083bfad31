package evstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/broker"
)

// Bounds of one batch, in which each channel of each item is an event. The
// bytes are those of all events' data, so that a small body for many channels
// does not become a large one; a larger max_body raises them.
const (
	maxBatch      = 1000
	maxBatchBytes = 8 << 20
)

// checkBatch bounds what a batch has become.
func (e *endpoint) checkBatch(events, size int) error {
	if events > maxBatch {
		return tooLarge.because("there are more than %d events, which is what one batch may have", maxBatch)
	}
	if limit := max(maxBatchBytes, e.maxBody); size > limit {
		return tooLarge.because("the events' data has more than %d bytes in all, which is what one batch may have", limit)
	}
	return nil
}

// publishedDoc answers a request that published more than one event.
type publishedDoc struct {
	Published int         `json:"published"`
	ID        broker.ID   `json:"id,omitzero"`
	IDs       []broker.ID `json:"ids,omitempty"`
}

func newPublishedDoc(pr progress) publishedDoc {
	return publishedDoc{Published: pr.published, ID: pr.last}
}

// publishBatch publishes to channels that the body names: one object, an array
// of them, or a line of application/x-ndjson each.
func (e *endpoint) publishBatch(w http.ResponseWriter, r *http.Request) error {
	who, err := e.writer(r)
	if err == nil && !e.access.somewhere(who, doPublish) && !e.access.somewhere(who, doState) {
		err = e.access.refuse(who, doPublish, "any channel")
	}
	if err != nil {
		return e.fail(w, err)
	}
	by, err := e.author(r, who)
	if err != nil {
		return e.fail(w, err)
	}
	switch bodyKindOf(r) {
	case bodyEvents:
		return e.fail(w, badMedia.because("_publish takes JSON or application/x-ndjson; publish text/event-stream to a channel"))
	case bodyLines:
		return e.flow(w, r, by, func(body io.Reader) opSource {
			return lineSource(body, e.maxBody, func(line []byte) ([]broker.Op, error) {
				return e.readItem(line, who)
			})
		})
	}
	body, err := readBody(r, e.maxBody)
	if err != nil {
		return e.fail(w, err)
	}
	if text := bytes.TrimLeft(body, " \t\r\n"); len(text) > 0 && text[0] == '[' {
		return e.publishArray(w, r, text, who, by)
	}
	ops, err := e.readItem(body, who)
	if err != nil {
		return e.fail(w, err)
	}
	if len(ops) == 1 {
		ops[0].Key = by.key
		return e.publishOne(w, r, by, ops[0])
	}
	return e.publishOps(w, r, ops, nil, by)
}

// publishArray publishes all events of an array, or none of them.
func (e *endpoint) publishArray(w http.ResponseWriter, r *http.Request, body []byte, who caller, by author) error {
	// All of it is checked, and none of it kept: see firstOf.
	if err := decode(body, &[0]json.RawMessage{}); err != nil {
		return e.fail(w, err)
	}
	items := firstOf(maxBatch+1, body) // each is an event at least
	ops := make([]broker.Op, 0, min(len(items), maxBatch))
	places := make([]int, 0, cap(ops)) // the item, from 1, that each op is of
	size := 0
	for i, item := range items {
		more, err := e.readItem(item, who)
		for j := range more {
			size += sizeOf(&more[j])
		}
		if err == nil {
			err = e.checkBatch(len(ops)+len(more), size)
		}
		if err != nil {
			return e.fail(w, problemOf(err).at(progress{event: i + 1}))
		}
		ops = append(ops, more...)
		for range more {
			places = append(places, i+1)
		}
	}
	return e.publishOps(w, r, ops, places, by)
}

// publishOps appends operations that were all decided, in one place of the
// log. Only a used idempotency key can still refuse one of them.
func (e *endpoint) publishOps(w http.ResponseWriter, r *http.Request, ops []broker.Op, places []int, by author) error {
	doc := publishedDoc{IDs: make([]broker.ID, 0, len(ops))}
	numberKeys(ops, by.key, 0)
	place := func(i int) int {
		if i < len(places) {
			return places[i]
		}
		return 0
	}
	var results []broker.Result
	if len(ops) > 0 {
		var err error
		if results, err = e.append(r.Context(), by, ops); err != nil {
			return e.fail(w, problemOf(err).at(progress{event: place(indexOf(err))}))
		}
	}
	var refused error
	pr, replayed := progress{}, len(results) > 0
	for i, result := range results {
		if result.Err != nil {
			if refused == nil {
				refused, pr.event = result.Err, place(i)
			}
			continue
		}
		pr.published++
		pr.last = result.ID
		replayed = replayed && result.Repeated
		doc.IDs = append(doc.IDs, result.ID)
	}
	if refused != nil {
		return e.fail(w, problemOf(refused).at(pr))
	}
	if replayed {
		markReplayed(w)
	}
	doc.Published, doc.ID = pr.published, pr.last
	return e.answer(w, doc)
}

// sizeOf is the bytes of an operation's data.
func sizeOf(op *broker.Op) int {
	if op.State != nil {
		return len(op.State.Value)
	}
	return len(op.Event.Data)
}

// itemMembers are what an item may have; state stands with channels alone.
var itemMembers = []string{"channel", "channels", "event", "data", "id", "retry", "except", "state"}

// readItem reads one item and decides whether who may publish it: one
// operation for each channel of it.
func (e *endpoint) readItem(body []byte, who caller) ([]broker.Op, error) {
	channels, op, err := parseItem(body)
	if err != nil {
		return nil, err
	}
	if err := e.checkBatch(len(channels), len(channels)*sizeOf(&op)); err != nil {
		return nil, err
	}
	do := doPublish
	if op.Kind == broker.KindState {
		do = doState
	}
	ops := make([]broker.Op, 0, len(channels))
	for _, channel := range channels {
		if err := e.access.require(who, do, channel); err != nil {
			return nil, err
		}
		op.Channel = channel
		if op.State != nil {
			op.State = &broker.StateOp{Value: op.State.Value}
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// parseItem reads one item: its channels, and the event for each of them.
func parseItem(body []byte) (channels []string, op broker.Op, err error) {
	var members map[string]json.RawMessage
	if err := decode(body, &members); err != nil {
		return nil, op, err
	}
	if members == nil {
		return nil, op, badBody.because("an event is an object, not null")
	}
	var unknown []string
	for name, value := range members {
		if !slices.Contains(itemMembers, name) {
			unknown = append(unknown, strconv.Quote(clip(name)))
		} else if string(value) == "null" && name != "data" && name != "state" {
			delete(members, name)
		}
	}
	if unknown != nil {
		slices.Sort(unknown)
		return nil, op, badBody.because("an event has no member %s, only %s",
			clip(strings.Join(unknown, ", ")), strings.Join(itemMembers, ", "))
	}
	if channels, err = itemChannels(members); err != nil {
		return nil, op, err
	}
	op, err = itemOp(members)
	return channels, op, err
}

func itemChannels(members map[string]json.RawMessage) ([]string, error) {
	one, hasOne := members["channel"]
	many, hasMany := members["channels"]
	switch {
	case hasOne == hasMany:
		return nil, badBody.because("an event has either channel or channels")
	case hasOne:
		channel, err := text("channel", one)
		return []string{channel}, err
	}
	raw := firstOf(maxBatch+1, many)
	if len(raw) == 0 {
		return nil, badBody.because("channels is an array of names, and not empty")
	}
	if len(raw) > maxBatch {
		return nil, tooLarge.because("there are more than %d channels, which is what one batch may have", maxBatch)
	}
	channels := make([]string, 0, len(raw))
	for _, r := range raw {
		channel, err := text("channels", r)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(channels, channel) {
			channels = append(channels, channel)
		}
	}
	return channels, nil
}

func itemOp(members map[string]json.RawMessage) (op broker.Op, err error) {
	if value, ok := members["state"]; ok {
		if len(members) > 2 { // it, and its channel or channels
			return op, badBody.because("an item with state sets the channel's value, and has nothing of an event")
		}
		return broker.Op{Kind: broker.KindState, State: &broker.StateOp{Value: value}}, nil
	}
	op.Kind = broker.KindEvent
	for name, field := range map[string]*string{"event": &op.Event.Type, "id": &op.Event.ID, "except": &op.Except} {
		if value, ok := members[name]; ok {
			if *field, err = text(name, value); err != nil {
				return op, err
			}
		}
	}
	if retry, ok := members["retry"]; ok {
		if op.Event.Retry, err = parseRetry(string(retry)); err != nil {
			return op, err
		}
	}
	if op.Event.Data, err = itemData(members["data"]); err != nil {
		return op, err
	}
	return op, checkFields(&op)
}

// itemData is a string's text, or any other value as it is written, without
// the white space between its tokens: numbers keep their digits.
func itemData(raw json.RawMessage) ([]byte, error) {
	switch {
	case len(raw) == 0:
		return nil, nil
	case raw[0] == '"':
		s, err := text("data", raw)
		return []byte(s), err
	}
	var b bytes.Buffer
	err := json.Compact(&b, raw)
	return b.Bytes(), err
}

// firstOf reads the first n elements of an array in valid JSON, of any other
// value none. It does not read the others: each would take many times the
// bytes that it has in the body.
func firstOf(n int, array []byte) []json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(array))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil
	}
	var first []json.RawMessage
	for len(first) < n && dec.More() {
		var element json.RawMessage
		if dec.Decode(&element) != nil {
			return nil
		}
		first = append(first, element)
	}
	return first
}

// decode reads a body that is one JSON value, and UTF-8.
func decode(body []byte, v any) error {
	if !utf8.Valid(body) {
		return badBody.because("the body is not UTF-8 text")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return badBody.because("the body is empty; it should be JSON")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return badBody.because("%s", explain(err))
	}
	return nil
}

// explain names what was wrong without the names of Go's types.
func explain(err error) string {
	switch err := err.(type) { //nolint:errorlint // json wraps neither
	case *json.SyntaxError:
		return fmt.Sprintf("the JSON is malformed at byte %d: %s", err.Offset, err)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("an event is an object, not %s", err.Value)
	}
	return "the body is not JSON that can be read"
}

// text reads a JSON string. One that is no text, because half of a surrogate
// pair is missing, is refused: it could not arrive as it was sent.
func text(name string, raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", badBody.because("%s is a string, not %s", name, clip(string(raw)))
	}
	if halfSurrogate(raw) {
		return "", badBody.because("%s has half of a surrogate pair, which is no character", name)
	}
	return s, nil
}

// halfSurrogate looks for a \u escape of half a character in a JSON string.
func halfSurrogate(raw []byte) bool {
	high := false // the escape before was the first half of a pair
	for i := 0; i < len(raw); i++ {
		escaped := raw[i] == '\\' && i+1 < len(raw)
		if escaped && raw[i+1] == 'u' && i+6 <= len(raw) {
			unit, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
			low := unit >= 0xDC00 && unit < 0xE000
			if low != high {
				return true
			}
			high = unit >= 0xD800 && unit < 0xDC00
			i += 5
			continue
		}
		if high {
			return true
		}
		if escaped {
			i++
		}
	}
	return high
}

// indexOf is the operation that an error of the broker is about, or -1.
func indexOf(err error) int {
	if op, ok := errors.AsType[*broker.OpError](err); ok {
		return op.Index
	}
	return -1
}
