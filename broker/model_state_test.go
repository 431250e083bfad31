package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// The model's values: each reader is a client that holds the values which it
// was told, and applies to them what comes. When there is nothing more to read
// it has what the channels have; and on the way each frame fits what it has,
// tells a value that there was, nothing older than before, and nothing twice.

// modelState is a version of a channel's value, "" for none.
type modelState struct {
	id    ID
	value string
}

func (r *modelReader) reads(ch string) bool {
	if len(r.types) > 0 {
		return false // the types of the model are no channels
	}
	return slices.ContainsFunc(r.names, func(name string) bool { return naiveMatch(name, ch) })
}

// joins reports whether a channel comes by a name that r has joined since it had
// everything: then it may be told what it had before.
func (r *modelReader) joins(ch string) bool {
	return slices.ContainsFunc(r.joined, func(name string) bool { return naiveMatch(name, ch) })
}

func (m *model) state(name string) modelState {
	if list := m.states[name]; len(list) > 0 {
		return list[len(list)-1]
	}
	return modelState{}
}

// stateAt is the value that a channel had at a position of the log.
func (m *model) stateAt(name string, at ID) (value string) {
	for _, s := range m.states[name] {
		if !s.id.After(at) {
			value = s.value
		}
	}
	return value
}

// write sets, changes and removes values, several at once.
func (m *model) write(n int) {
	var ops []Op
	for range n {
		ch := one(m, modelChannels)
		op := Op{Kind: KindState, Channel: ch, State: &StateOp{}}
		if m.rng.IntN(9) > 0 {
			m.told.writes++
			op.State.Value = m.value(m.state(ch).value)
		}
		ops = append(ops, op)
	}
	results, err := m.b.Publish(context.Background(), ops)
	if err != nil {
		m.t.Fatal(err)
	}
	for i, r := range results {
		name, old := ops[i].Channel, m.state(ops[i].Channel)
		if ops[i].State.Value != nil && m.late(name, &r) {
			continue
		}
		switch {
		case r.Err != nil && (ops[i].State.Value != nil || old.value != ""):
			m.t.Errorf("%s: %v", name, r.Err)
		case r.Err != nil:
		case r.Unchanged != (string(ops[i].State.Value) == old.value):
			m.t.Errorf("%s from %s to %s: %+v", name, old.value, ops[i].State.Value, r)
		case !r.Unchanged:
			m.states[name] = append(m.states[name], modelState{r.ID, string(ops[i].State.Value)})
		}
	}
	for name := range m.states {
		want := m.state(name)
		got := m.b.State(name)
		if string(got.Value) != want.value || want.value != "" && got.Version != want.id {
			m.t.Errorf("%s is %s of %s, want %s of %s", name, got.Value, got.Version, want.value, want.id)
		}
	}
}

// value is another value: no two are equal, but most are alike.
func (m *model) value(old string) []byte {
	n := strconv.Itoa(m.told.writes)
	var object map[string]any
	if json.Unmarshal([]byte(old), &object) != nil || m.rng.IntN(8) == 0 {
		object = map[string]any{"text": strings.Repeat("x", m.rng.IntN(300)), "list": []int{1, 2, 3}}
	}
	object["n"] = json.RawMessage(n)
	key := one(m, []string{"a", "b", "c/~"})
	switch m.rng.IntN(5) {
	case 0:
		delete(object, key)
	case 1:
		object[key] = []any{m.rng.IntN(3), nil, "y"}
	case 2:
		object[key] = map[string]any{"deep": m.rng.IntN(3)}
	case 3:
		object[key] = nil
	case 4:
		if m.rng.IntN(4) == 0 {
			return []byte(n) // no object at all
		}
	}
	value, _ := json.Marshal(object)
	return value
}

// split tells events from frames of values: the types of the model's events
// are no channels.
func (m *model) split(batch *Batch) (events, frames []sse.Event) {
	for _, e := range m.decode(batch) {
		if slices.Contains(modelChannels, e.Type) {
			frames = append(frames, e)
		} else {
			events = append(events, e)
		}
	}
	return events, frames
}

// values checks the frames of a batch, and gives them to the client.
func (m *model) values(r *modelReader, batch *Batch, frames []sse.Event) {
	raws := map[string]int{}
	for _, d := range batch.Deliveries {
		if d.State != nil {
			raws[d.Channel]++
			m.frame(r, d.Channel, string(d.Event.Data), d.ID)
			if got := r.view[d.Channel]; got.value != string(d.State.Value) || d.State.Version != got.id {
				m.t.Errorf("%s was delivered %+v, told by %s", r.id, d.State, d.Event.Data)
			}
			if d.Event.ID != "" && d.Event.ID != d.ID.String() {
				m.t.Errorf("%s was delivered %s with the id %s", r.id, d.ID, d.Event.ID)
			}
		}
	}
	for _, e := range frames {
		id, _ := ParseID(e.ID)
		m.frame(r, e.Type, string(e.Data), id)
		if m.b.config.Load().stateOf(e.Type).Format == FormatRaw {
			raws[e.Type]++
		}
	}
	for name, n := range raws {
		if n > 1 {
			m.t.Errorf("%s was told %d values of %s at once", r.id, n, name)
		}
	}
}

func (c *Config) stateOf(name string) StatePolicy {
	for _, r := range c.Rules {
		if naiveMatch(r.Pattern, name) {
			return r.State
		}
	}
	return c.State
}

// frame gives a frame to the client. id is zero for a frame without one.
func (m *model) frame(r *modelReader, name, data string, id ID) {
	had := r.view[name]
	if !r.reads(name) {
		m.t.Errorf("%s %v was told of %s", r.id, r.names, name)
		return
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(data), &members); err != nil || len(members) != 1 {
		m.t.Errorf("%s was told %s", r.id, data)
		return
	}
	policy := m.b.config.Load().stateOf(name)
	value := ""
	switch {
	case data == `{"deleted":true}`:
		m.told.removed++
	case members["patch"] != nil:
		m.told.patched++
		if had.value == "" || id.IsZero() || had.id.IsZero() {
			m.t.Errorf("%s has %q of %s, and was told the patch %s", r.id, had.value, name, data)
			return
		}
		value = m.patched(policy.Format, had.value, members["patch"])
	default:
		m.told.whole++
		value = string(members[policy.key()])
	}
	list := m.states[name]
	i := slices.IndexFunc(list, func(s modelState) bool {
		if !id.IsZero() {
			return s.id == id
		}
		return s.value == value && (value != "" || s.id.After(had.id))
	})
	for i >= 0 && value == "" && id.IsZero() && slices.ContainsFunc(list[i+1:], func(s modelState) bool { return s.value == "" }) {
		i++ // the newest that there was
	}
	if i < 0 || !same(list[i].value, value) {
		m.t.Errorf("%s was told that %s is %q of %s by %s, having %q: %v", r.id, name, value, id, data, had.value, i)
		return
	}
	switch told := list[i]; {
	case !told.id.After(had.id) || !told.id.After(r.since) && !r.joins(name):
		m.t.Errorf("%s %v %+v was told %s of %s by %s, having %s %q, since %s, state %v", r.id, r.names, r.begun, told.id, name, data, had.id, had.value, r.since, m.state(name))
	case i > 0 && !had.id.IsZero() && list[i-1].id.After(had.id):
		m.told.lagged++
	}
	r.view[name] = modelState{list[i].id, list[i].value}
}

// patched is what a client makes of a patch.
func (m *model) patched(format StateFormat, value string, patch []byte) string {
	v, err := jsonvalue.Parse([]byte(value))
	if err == nil && format == FormatMergePatch {
		var p *jsonvalue.Value
		if p, err = jsonvalue.Parse(patch); err == nil {
			return jsonvalue.Merge(v, p).String()
		}
	}
	var p *jsonvalue.Patch
	if err == nil {
		p, err = jsonvalue.ParsePatch(patch)
	}
	if err == nil {
		v, err = p.Apply(v)
	}
	if err != nil {
		m.t.Errorf("%s does not go with %s: %v", patch, value, err)
		return ""
	}
	return v.String()
}

func same(a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	v, err := jsonvalue.Parse([]byte(a))
	w, err2 := jsonvalue.Parse([]byte(b))
	return err == nil && err2 == nil && jsonvalue.Equal(v, w)
}

// sameView checks that a client with nothing more to read has every value.
func (m *model) sameView(r *modelReader) {
	for _, name := range modelChannels {
		if !r.reads(name) {
			continue
		}
		if want, got := m.state(name), r.view[name]; got.value != want.value {
			m.t.Errorf("%s %v %+v has %q of %s for %s, which is %q of %s", r.id, r.names, r.begun, got.value, got.id, name, want.value, want.id)
		}
	}
	r.since = ID{}
	if len(r.walksOf()) > 0 {
		m.t.Errorf("%s has nothing more to read, and is still to be told %s", r.id, fmt.Sprint(r.walksOf()))
	}
}

func (r *modelReader) walksOf() []*stateSnapshot {
	r.sub.mu.Lock()
	defer r.sub.mu.Unlock()
	if r.sub.values == nil {
		return nil
	}
	return r.sub.values.snapshots
}
