package grip

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/sse"
)

// Bounds of one request to publish.
const (
	MaxBody   = 1_000_000 // bytes
	maxItems  = 1000
	maxEvents = 1000 // of one item
)

// What an item does.
const (
	actionSend  = "send"
	actionHint  = "hint"
	actionClose = "close"
)

// actionType is the type of what carries an action, which no reader gets.
const actionType = "grip"

// item is one thing that is published.
type item struct {
	channel    string // of the hub
	id, prevID string
	hasPrev    bool
	meta       map[string]string
	action     string
	events     []sse.Event
	filters    []string // content-filters
	hasFilters bool     // they are given, and may be none
}

// ids are written as text, and by some as numbers.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '"' {
		var n json.Number
		if err := json.Unmarshal(b, &n); err != nil {
			return errors.New("it must be a string")
		}
		*t = text(n)
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}

// itemJSON is an item as it is sent. Formats may stand in it, or in formats.
type itemJSON struct {
	Channel string                     `json:"channel"`
	ID      *text                      `json:"id"`
	PrevID  *text                      `json:"prev-id"`
	Meta    map[string]json.RawMessage `json:"meta"`
	Formats map[string]json.RawMessage `json:"formats"`
	Stream  json.RawMessage            `json:"http-stream"`
}

type streamJSON struct {
	Action  string    `json:"action"`
	Content *string   `json:"content"`
	Binary  *string   `json:"content-bin"`
	Filters *[]string `json:"content-filters"`
}

// readItems reads the body of a request to publish. Errors are for who sent it.
func readItems(body []byte) ([]item, error) {
	var said struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, fmt.Errorf("the body is not {\"items\":[…]}: %w", err)
	}
	if len(said.Items) == 0 || len(said.Items) > maxItems {
		return nil, fmt.Errorf("the body has %d items, 1 to %d are allowed", len(said.Items), maxItems)
	}
	items := make([]item, len(said.Items))
	for n, raw := range said.Items {
		if err := items[n].read(raw); err != nil {
			return nil, fmt.Errorf("items[%d]: %w", n, err)
		}
	}
	return items, nil
}

func (i *item) read(raw []byte) (err error) {
	var said itemJSON
	if err := json.Unmarshal(raw, &said); err != nil {
		return fmt.Errorf("not an item: %w", err)
	}
	if i.channel, err = ChannelName(said.Channel); err != nil {
		return err
	}
	if said.ID != nil {
		if i.id = string(*said.ID); i.id == "" {
			return errors.New("id is empty")
		}
		if err := checkID(i.id); err != nil {
			return fmt.Errorf("id %w", err)
		}
	}
	if said.PrevID != nil {
		i.prevID, i.hasPrev = string(*said.PrevID), true
		if err := checkID(i.prevID); err != nil {
			return fmt.Errorf("prev-id %w", err)
		}
	}
	if err := i.readMeta(said.Meta); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	format := said.Stream
	if f, ok := said.Formats["http-stream"]; ok {
		format = f
	}
	if format == nil {
		return errors.New("there is no format http-stream, the only one that is done here")
	}
	if err := i.readStream(format); err != nil {
		return fmt.Errorf("http-stream: %w", err)
	}
	return nil
}

func (i *item) readMeta(said map[string]json.RawMessage) error {
	if len(said) > maxMeta {
		return fmt.Errorf("it has %d entries, at most %d are allowed", len(said), maxMeta)
	}
	i.meta = make(map[string]string, len(said))
	for name, raw := range said {
		var value text
		if err := json.Unmarshal(raw, &value); err != nil {
			return fmt.Errorf("%s: %w", clip(strconv.Quote(name)), err)
		}
		for _, c := range []byte(value) {
			if c < ' ' || c == 0x7F {
				return fmt.Errorf("%s has control characters", clip(strconv.Quote(name)))
			}
		}
		i.meta[name] = string(value)
	}
	return nil
}

func (i *item) readStream(raw json.RawMessage) error {
	var said streamJSON
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	switch i.action = said.Action; i.action {
	case "":
		i.action = actionSend
	case actionSend:
	case actionHint, actionClose, "refresh":
		if i.action == "refresh" {
			i.action = actionHint
		}
		i.events = []sse.Event{{Type: actionType}}
		return nil
	default:
		return fmt.Errorf("action is send, hint, close or refresh, not %q", clip(i.action))
	}
	if said.Filters != nil {
		i.hasFilters, i.filters = true, *said.Filters
		for _, f := range i.filters {
			if !slices.Contains([]string{buildID, varSubst}, f) {
				return fmt.Errorf("content-filters: there is no %q, only %s and %s", clip(f), buildID, varSubst)
			}
		}
	}
	var content []byte
	switch {
	case said.Content != nil && said.Binary != nil:
		return errors.New("there is content and content-bin: one of both is allowed")
	case said.Content != nil:
		content = []byte(*said.Content)
	case said.Binary != nil:
		var err error
		if content, err = base64.StdEncoding.DecodeString(*said.Binary); err != nil {
			return errors.New("content-bin is not base64")
		}
	default:
		return errors.New("there is no content")
	}
	var err error
	i.events, err = readEvents(content)
	return err
}

// readEvents reads content, which must be whole events: the hub keeps and sends nothing
// else. Comments are left out.
func readEvents(content []byte) (events []sse.Event, err error) {
	for d := sse.NewDecoder(bytes.NewReader(content), MaxBody); ; {
		e, err := d.Next()
		switch {
		case errors.Is(err, io.EOF) && len(events) == 0:
			return nil, errors.New("content has no event: it must be server-sent events, such as \"data: hello\\n\\n\"")
		case errors.Is(err, io.EOF):
			return events, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("content ends within an event: a blank line ends one")
		case err == nil && !broker.UsableID(e.ID):
			return nil, fmt.Errorf("content has the id %q, which is like one of the hub's own, or does not come back from a client as it is", clip(e.ID))
		case err == nil && e.Retry > httpapi.TrustedRetry:
			return nil, fmt.Errorf("content has a retry of %d, at most %d are allowed: it holds for the whole connection of each reader", e.Retry, httpapi.TrustedRetry)
		case err == nil:
			err = broker.CheckEvent(&e)
		}
		if err != nil {
			return nil, fmt.Errorf("content: %w", err)
		}
		if events = append(events, e); len(events) > maxEvents {
			return nil, fmt.Errorf("content has more than %d events", maxEvents)
		}
	}
}
