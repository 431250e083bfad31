package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/audience"
	"github.com/evstream/caddy-evstream/httpapi/internal/jsonbody"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// itemMembers are the members that an item may have. Beside state there may only be
// channel or channels.
var itemMembers = []string{"channel", "channels", "event", "data", "id", "retry", "except", "to", "close", "state"}

// eventMembers are those that say what an event is. An item that closes a channel has a
// last event with any of them.
var eventMembers = []string{"event", "data", "id", "retry"}

// readItem parses an item and returns an operation for each of its channels, if who
// may do all of them.
func (h *Handler) readItem(body []byte, who *access.Caller) ([]broker.Op, error) {
	channels, op, err := parseItem(body)
	if err != nil {
		return nil, err
	}
	if err := h.checkBatch(len(channels), len(channels)*sizeOf(&op)); err != nil {
		return nil, err
	}
	if err := h.checkRetry(who, &op); err != nil {
		return nil, err
	}
	ops := make([]broker.Op, 0, len(channels))
	for _, channel := range channels {
		if err := h.access.Require(who, verbOf(&op), channel); err != nil {
			return nil, err
		}
		op.Channel = channel
		if op.State != nil {
			op.State = &broker.StateOp{Value: op.State.Value}
		}
		if op.Close != nil {
			op.Close = &broker.CloseOp{Event: op.Close.Event}
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// parseItem parses an item into its channels and one operation, without a channel, that
// is meant for each of them.
func parseItem(body []byte) (channels []string, op broker.Op, err error) {
	members, err := jsonbody.DecodeObject[json.RawMessage](body)
	if err != nil {
		return nil, op, err
	}
	if members == nil {
		return nil, op, problem.BadBody.Because("an event is an object, not null")
	}
	var unknown []string
	for name, value := range members {
		if !slices.Contains(itemMembers, name) {
			unknown = append(unknown, strconv.Quote(problem.Clip(name)))
		} else if string(value) == "null" && name != "data" && name != "state" {
			delete(members, name)
		}
	}
	if unknown != nil {
		slices.Sort(unknown)
		return nil, op, problem.BadBody.Because("an event has no member %s, only %s",
			problem.Clip(strings.Join(unknown, ", ")), strings.Join(itemMembers, ", "))
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
		return nil, problem.BadBody.Because("an event has either channel or channels")
	case hasOne:
		channel, err := jsonbody.Text("channel", one)
		return []string{channel}, err
	}
	raw := jsonbody.First(maxBatch+1, many)
	if len(raw) == 0 {
		return nil, problem.BadBody.Because("channels is an array of names, and not empty")
	}
	if len(raw) > maxBatch {
		return nil, problem.TooLarge.Because("there are more than %d channels, which is what one batch may have", maxBatch)
	}
	channels := make([]string, 0, len(raw))
	for _, r := range raw {
		channel, err := jsonbody.Text("channels", r)
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
			return op, problem.BadBody.Because("an item with state sets the channel's value, and has nothing of an event")
		}
		return broker.Op{Kind: broker.KindState, State: &broker.StateOp{Value: value}}, nil
	}
	op.Kind = broker.KindEvent
	if value, ok := members["close"]; ok {
		switch string(value) {
		case "true":
			delete(members, "close")
			op.Kind, op.Close = broker.KindClose, &broker.CloseOp{Event: slices.ContainsFunc(eventMembers, func(name string) bool { return members[name] != nil })}
		case "false":
		default:
			return op, problem.BadBody.Because("close is true or false, not %s", problem.Clip(string(value)))
		}
	}
	for name, field := range map[string]*string{"event": &op.Event.Type, "id": &op.Event.ID} {
		if value, ok := members[name]; ok {
			if *field, err = jsonbody.Text(name, value); err != nil {
				return op, err
			}
			if name == "id" && *field == "" {
				return op, errNoID
			}
		}
	}
	if retry, ok := members["retry"]; ok {
		if op.Event.Retry, err = parseRetry(string(retry)); err != nil {
			return op, err
		}
	}
	to, err := itemTerms("to", members["to"])
	if err != nil {
		return op, err
	}
	except, err := itemTerms("except", members["except"])
	if err == nil {
		err = audience.Set(&op, to, except)
	}
	if err != nil {
		return op, err
	}
	if op.Event.Data, err = itemData(members["data"]); err != nil {
		return op, err
	}
	return op, checkFields(&op)
}

// itemTerms are the terms of to or except: one, or an array of them.
func itemTerms(name string, raw json.RawMessage) (terms []string, err error) {
	switch {
	case len(raw) == 0:
		return nil, nil
	case name == "to" && raw[0] == '[' && len(jsonbody.First(1, raw)) == 0:
		return nil, problem.BadEvent.Because("%s names nobody: leave it out to reach all", name)
	case raw[0] != '[':
		term, err := jsonbody.Text(name, raw)
		return []string{term}, err
	}
	for _, r := range jsonbody.First(broker.MaxFilter+1, raw) {
		term, err := jsonbody.Text(name, r)
		if err != nil {
			return nil, err
		}
		terms = append(terms, term)
	}
	return terms, nil
}

// ReadEvent parses an event {"event", "data", "retry"}, as _publish takes it. It may have
// no id: the event is in no history, so a client could not resume after it.
func ReadEvent(raw json.RawMessage) (*sse.Event, error) {
	members, err := jsonbody.DecodeObject[json.RawMessage](raw)
	switch {
	case members == nil && err != nil && json.Unmarshal(raw, &members) == nil:
		return nil, err // a member is there twice
	case members == nil:
		return nil, errors.New("it is not an object")
	}
	for name := range members {
		if name != "event" && name != "data" && name != "retry" {
			return nil, fmt.Errorf("it has the member %q, and may have event, data and retry", problem.Clip(name))
		}
	}
	op, err := itemOp(members)
	if err == nil && op.Event.Retry > TrustedRetry {
		err = fmt.Errorf("retry is at most %d milliseconds", TrustedRetry)
	}
	if err == nil {
		err = broker.CheckEvent(&op.Event)
	}
	return &op.Event, err
}

// itemData is the data of a JSON value: the text of a string, or any other value
// compacted. Numbers keep their digits.
func itemData(raw json.RawMessage) ([]byte, error) {
	switch {
	case len(raw) == 0:
		return nil, nil
	case raw[0] == '"':
		s, err := jsonbody.Text("data", raw)
		return []byte(s), err
	}
	var b bytes.Buffer
	err := json.Compact(&b, raw)
	return b.Bytes(), err
}
