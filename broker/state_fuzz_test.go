package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// Clients that read names which overlap, from histories that hold next to
// nothing, are cut and come back, join and leave, and have the values in the
// end. What they are told on the way is a value that there was, and none goes
// back.
func TestClientsOfSmallHistoriesEndUpWithTheValues(t *testing.T) {
	for seed := range uint64(200) {
		if runClients(t, seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

var (
	clientChannels = []string{"a", "b", "m/1", "m/2", "j/1", "j/2"}
	clientNames    = append([]string{"*", "m/*", "j/*", "**", "*/1"}, clientChannels...)
)

type clientsRun struct {
	t       *testing.T
	rng     *rand.Rand
	b       *Broker
	decode  bool
	written int
	truth   map[string]map[ID]string // values of channels
}

type valueClient struct {
	*clientsRun
	sub    *Subscription
	names  []string
	asked  []string // names that it comes back with: what it joined is gone then
	have   map[string]string
	cursor string
	newest ID // id on this connection
	log    []string
}

func runClients(t *testing.T, seed uint64) {
	r := &clientsRun{t: t, rng: rand.New(rand.NewPCG(seed, 7)), decode: seed%3 == 0, truth: map[string]map[ID]string{}}
	cfg := DefaultConfig()
	cfg.History = Policy{Events: 1 + r.rng.IntN(5), Bytes: 4 << 10 << r.rng.IntN(3)}
	cfg.Rules = []Rule{
		{Pattern: "m/*", Policy: cfg.History, State: StatePolicy{Format: FormatMergePatch}},
		{Pattern: "j/*", Policy: cfg.History, State: StatePolicy{Format: FormatJSONPatch}},
	}
	cfg.MaxBytes = 4 << 10 << r.rng.IntN(6)
	var err error
	if r.b, err = New(NewMemory(), cfg); err != nil {
		t.Fatal(err)
	}
	defer r.b.Close()
	for _, ch := range clientChannels {
		r.truth[ch] = map[ID]string{}
	}
	r.write()
	clients := make([]*valueClient, 3)
	for i := range clients {
		c := &valueClient{clientsRun: r}
		for range 1 + r.rng.IntN(3) {
			if name := c.anyName(); !slices.Contains(c.asked, name) {
				c.asked = append(c.asked, name)
			}
		}
		c.connect()
		clients[i] = c
	}
	for range 60 {
		c := clients[r.rng.IntN(len(clients))]
		switch r.rng.IntN(12) {
		case 0, 1, 2:
			r.write()
		case 3, 4, 5, 6:
			c.read()
		case 7:
			c.cut()
		case 8:
			c.join()
		case 9:
			c.leave()
		default:
			c.drain()
		}
		if t.Failed() {
			return
		}
	}
	for _, c := range clients {
		c.drain()
		c.sub.Close()
	}
	if n := r.b.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func (r *clientsRun) anyName() string { return clientNames[r.rng.IntN(len(clientNames))] }

// value is one that tells in its n how new it is.
func (r *clientsRun) value() string {
	r.written++
	n := r.written
	switch r.rng.IntN(8) {
	case 0:
		return strconv.Itoa(n)
	case 1:
		return fmt.Sprintf(`{"n":%d}`, n)
	case 2:
		return fmt.Sprintf(`{"n":%d,"x":null,"l":"%s"}`, n, strings.Repeat("x", r.rng.IntN(2000)))
	case 3:
		return fmt.Sprintf(`{"n":%d,"o":{"p":%d,"q":[%d,%d,3]},"l":"%s"}`, n, n%3, n%2, n%5, strings.Repeat("z", 200))
	}
	return fmt.Sprintf(`{"n":%d,"l":"%s"}`, n, strings.Repeat("y", 100+r.rng.IntN(3)*100))
}

func ageOf(value string) int {
	if n, err := strconv.Atoi(value); err == nil {
		return n
	}
	var object struct{ N int }
	_ = json.Unmarshal([]byte(value), &object) // no value has no age
	return object.N
}

// write sets and removes values, among events that leave them little room.
func (r *clientsRun) write() {
	for range 1 + r.rng.IntN(6) {
		name := clientChannels[r.rng.IntN(len(clientChannels))]
		var ops []Op
		switch r.rng.IntN(12) {
		case 0, 1:
			ops = []Op{{Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte(strings.Repeat("e", r.rng.IntN(3000)))}}}
		case 2, 3:
			ops = []Op{set(name, "")}
		case 4:
			ops = []Op{{Kind: KindPurge, Channel: name}}
		case 5, 6:
			ops = []Op{set(name, r.value()), set(name, r.value())}
		default:
			ops = []Op{set(name, r.value())}
		}
		results, err := r.b.Publish(r.t.Context(), ops)
		if err != nil {
			r.t.Fatal(err)
		}
		for i, result := range results {
			if result.Err == nil && ops[i].Kind == KindState {
				r.truth[name][result.ID] = string(ops[i].State.Value)
			}
		}
	}
}

func (c *valueClient) note(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func (c *valueClient) fail(format string, args ...any) {
	c.t.Errorf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(c.log, "\n"))
}

func (c *valueClient) reads(ch string) bool {
	return slices.ContainsFunc(c.names, func(name string) bool { return naiveMatch(name, ch) })
}

// forget drops what it does not read any more.
func (c *valueClient) forget() {
	for name := range c.have {
		if !c.reads(name) {
			delete(c.have, name)
		}
	}
}

func (c *valueClient) connect() {
	c.names, c.newest = slices.Clone(c.asked), ID{}
	start := Start{LastEventID: c.cursor}
	if c.cursor == "" {
		c.have = map[string]string{}
		start = []Start{{}, {}, {Earliest: true}, {Last: 2}}[c.rng.IntN(4)]
	}
	c.forget()
	var err error
	if c.sub, err = c.b.Subscribe(SubscribeOptions{Channels: c.names, Start: start}); err != nil {
		c.t.Fatal(err)
	}
	c.note("connect %v %+v", c.names, start)
	if !c.sub.Opening() {
		c.cursor = c.sub.Start().String()
	}
}

// cut ends the connection. By then evstream.at may have told the cursor.
func (c *valueClient) cut() {
	if at := c.sub.Cursor(); c.rng.IntN(2) == 0 && !c.sub.Opening() {
		if id, ok := ParseID(c.cursor); !ok || at.After(id) {
			c.cursor = at.String()
		}
	}
	c.sub.Close()
	for range c.rng.IntN(3) {
		c.write()
	}
	c.connect()
}

func (c *valueClient) join() {
	name := c.anyName()
	if err := c.sub.Join(name, Start{}); err != nil {
		c.t.Fatal(err)
	}
	c.note("join %s", name)
	c.names = c.sub.Channels()
}

func (c *valueClient) leave() {
	if len(c.names) < 2 {
		return
	}
	name := c.names[c.rng.IntN(len(c.names))]
	c.sub.Leave(name)
	c.note("leave %s", name)
	c.names = c.sub.Channels()
	c.asked = slices.DeleteFunc(c.asked, func(other string) bool { return other == name })
	if len(c.asked) == 0 { // the next time it asks for what it joined, and begins anew
		c.asked, c.cursor = slices.Clone(c.names), ""
	}
	c.forget()
}

func (c *valueClient) read() (more bool) {
	batch := Batch{Decode: c.decode, Max: []int{0, 1, 300, 3000}[c.rng.IntN(4)]}
	if c.decode {
		batch.Max = c.rng.IntN(4)
	}
	if err := c.sub.Read(&batch); err != nil {
		c.t.Fatal(err)
	}
	if batch.Gap != nil {
		c.note("gap %s", batch.Gap.Reason)
		if batch.Gap.Reason != ReasonTrimmed {
			c.fail("a gap: %s", batch.Gap.Reason)
		}
	}
	for _, d := range batch.Deliveries {
		if d.State != nil && string(stateData(nil, &stateVersion{value: d.State.Value, key: "value"})) != string(d.Event.Data) {
			c.fail("%s: the value %q in %q", d.Channel, d.State.Value, d.Event.Data)
		}
		batch.Bytes = sse.AppendEvent(batch.Bytes, &d.Event)
	}
	for block := range bytes.SplitAfterSeq(batch.Bytes, []byte("\n\n")) {
		if len(block) > 0 {
			c.got(sse.Parse(block))
		}
	}
	return batch.More
}

// got takes an event, or the frame of a value.
func (c *valueClient) got(e sse.Event) {
	c.note("got id %q type %q %.120s", e.ID, e.Type, e.Data)
	id, known := ParseID(e.ID)
	if known {
		if !id.After(c.newest) {
			c.fail("%v came after %v", id, c.newest)
		}
		c.newest, c.cursor = id, e.ID
	}
	if e.Type == "" {
		return
	}
	var frame struct {
		Value, Patch json.RawMessage
		Deleted      bool
	}
	if err := json.Unmarshal(e.Data, &frame); err != nil {
		c.t.Fatal(err, string(e.Data))
	}
	had := c.have[e.Type]
	value := string(frame.Value)
	switch {
	case frame.Deleted:
		delete(c.have, e.Type)
		return
	case frame.Patch != nil:
		var err error
		if value, err = applyPatch(had, string(frame.Patch)); err != nil {
			c.fail("a patch of %q: %v", had, err)
		}
	}
	if want := c.truth[e.Type][id]; known && !same(value, want) {
		c.fail("%s is %q by then, at %v it was %q", e.Type, value, id, want)
	}
	if ageOf(value) < ageOf(had) {
		c.fail("%s went back from %q to %q", e.Type, had, value)
	}
	c.have[e.Type] = value
}

// drain reads all, and then it has what the channels have.
func (c *valueClient) drain() {
	for range 10_000 {
		if !c.read() {
			break
		}
	}
	for _, name := range clientChannels {
		if want := string(c.b.State(name).Value); c.reads(name) && !same(c.have[name], want) {
			c.fail("%s is %q, want %q", name, c.have[name], want)
		}
	}
}

func applyPatch(value, patch string) (string, error) {
	v, err := jsonvalue.Parse([]byte(value))
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(patch, "[") {
		p, err := jsonvalue.ParsePatch([]byte(patch))
		if err == nil {
			v, err = p.Apply(v)
		}
		if err != nil {
			return "", err
		}
		return v.String(), nil
	}
	p, err := jsonvalue.Parse([]byte(patch))
	if err != nil {
		return "", err
	}
	return jsonvalue.Merge(v, p).String(), nil
}
