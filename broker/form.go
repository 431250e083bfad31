package broker

import (
	"cmp"
	"encoding/json"
	"slices"
	"sort"
	"strings"

	"github.com/evstream/caddy-evstream/sse"
)

// form says which events a reader gets, and in what form. It is nil for most readers: these
// get all events, as the histories have them.
type form struct {
	types    []string // sorted; all if there are none
	envelope bool
	oneType  bool   // all events get one type
	as       string // which
	ownIDs   bool   // an event without an id of its publisher has none
}

// formOf is the form that a reader asks for.
func formOf(o *SubscribeOptions) *form {
	if len(o.Types) == 0 && !o.Envelope && !o.OneType && !o.OwnIDs {
		return nil
	}
	return &form{
		types: typeSet(o.Types), envelope: o.Envelope || o.OneType, oneType: o.OneType,
		ownIDs: o.OwnIDs, as: strings.Clone(o.As), // it may be a part of a request
	}
}

// typeSet is the sorted types that a reader wants. "message" becomes "", which is the
// type of encoded events without one.
func typeSet(types []string) []string {
	set := make([]string, 0, len(types))
	for _, t := range types {
		if t == "message" {
			t = ""
		}
		set = append(set, strings.Clone(t)) // it may be a part of a request
	}
	slices.Sort(set)
	return set
}

// choosy reports whether only some types are wanted.
func (f *form) choosy() bool { return f != nil && len(f.types) > 0 }

// wants reports whether a type is wanted, which is "" for that of encoded events without one.
func (f *form) wants(name string) bool {
	if !f.choosy() {
		return true
	}
	i := sort.SearchStrings(f.types, name)
	return i < len(f.types) && f.types[i] == name
}

func (f *form) onlyOwnIDs() bool { return f != nil && f.ownIDs }

func (f *form) encloses() bool { return f != nil && f.envelope }

// envelope is the data of events for readers that ask which channel they are of.
type envelope struct {
	Channel string `json:"ch"`
	Event   string `json:"event"`
	Data    string `json:"data"`
}

// enclose puts an event of a channel into an envelope.
func (f *form) enclose(event *sse.Event, channel string) {
	event.Data, _ = json.Marshal(envelope{channel, cmp.Or(event.Type, "message"), string(event.Data)})
	if f.oneType {
		event.Type = f.as
	}
}
