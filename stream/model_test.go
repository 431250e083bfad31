package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// The model is a slice of what was published, and the index in it that each client
// has reached. Whole sessions run against it, attached or detached, whose clients
// stall, take a few bytes, hang up in the middle of an event, and resume with the
// last id that they have read. A client must read events in the order of the
// slice, and once; those that it misses must be announced by a gap; and a client
// that takes everything must have everything.

const modelSteps = 3000

func TestModel(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		bubble(t, fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runModel(t, seed, modelSteps) })
	}
}

// modelKept is how many events a channel keeps.
const modelKept = 8

var (
	modelChannels = []string{"a", "b", "a/x", "a/y", "a/x/1", "c"}
	modelTargets  = append([]string{"a/", "a/x/"}, modelChannels...)
	modelNames    = [][]string{
		{"a"}, {"a"}, {"b"}, {"a", "b"}, {"a/x", "a/y", "b"}, {"**"}, {"a/**", "c"}, {"*", "a/x/1"}, {"a/*"}, {"a/x/1", "c"},
	}
	modelTypes = []string{"", "goal"}
)

type modelEntry struct{ id, channel, typ string }

// modelClient is an EventSource: it reconnects.
type modelClient struct {
	names, types []string
	last         string // id that it has read last, and resumes from
	at           int    // index up to which it has all that it should get, or was told of a gap
	lost         int    // index up to which a gap was announced

	// Its current connection.
	*served
	fed     int // bytes that it has read
	opened  bool
	pushed  []string // pushed events that it has not read yet
	begged  int      // length of the log when End was called first; 0: it was not
	told    bool     // it was told the reconnect delay
	stopped bool     // it was told not to reconnect
}

type model struct {
	t       *testing.T
	rng     *rand.Rand
	server  *Server
	broker  *broker.Broker
	log     []modelEntry
	origin  string // the event id before the first entry
	clients []*modelClient
	pushes  int

	gaps, resumes, cuts int
	reasons             map[Reason]int
}

func runModel(t *testing.T, seed uint64, steps int) {
	cfg := broker.DefaultConfig()
	cfg.History = broker.Policy{Events: modelKept, Bytes: 4 << 10}
	b, err := broker.New(broker.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 11)), server: NewServer(b), broker: b,
		reasons: map[Reason]int{}, origin: b.Head().String(),
	}
	for range steps {
		if m.step(); t.Failed() {
			break
		}
	}
	for _, c := range slices.Clone(m.clients) {
		if !t.Failed() {
			m.settle(c)
		}
		m.leave(c)
	}
	synctest.Wait()
	m.server.Close()
	if n := b.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d events, %d connections, %d resumes, %d gaps; ended for %v", len(m.log), m.cuts, m.resumes, m.gaps, m.reasons)
	few := m.gaps < steps/100 || m.resumes < steps/50
	for _, reason := range []Reason{ReasonClient, ReasonSlow, ReasonEnded, ReasonReload} {
		few = few || m.reasons[reason] < steps/1000
	}
	if few && !t.Failed() {
		t.Error("the run did not test much")
	}
}

func (m *model) step() {
	var c *modelClient
	if len(m.clients) > 0 {
		c = one(m, m.clients)
	}
	switch n := m.rng.IntN(100); {
	case c == nil || n < 3 && len(m.clients) < 8:
		m.clients = append(m.clients, m.arrive())
	case n < 40:
		m.publish(1 + m.rng.IntN(3))
	case n < 43:
		m.publish(3 * modelKept)
	case n < 55:
		c.stallAfter(m.rng.IntN(200))
	case n < 62:
		c.give(m.rng.IntN(400))
	case n < 70:
		c.release()
	case n < 73:
		c.change(func() { c.maxTake = m.rng.IntN(100) })
	case n < 79:
		m.settle(c)
	case n < 85:
		m.cut(c)
	case n < 88:
		m.push(c)
	case n < 89:
		if c.begged == 0 {
			c.begged = len(m.log)
		}
		c.End()
	case n < 91:
		c.Close(ReasonReload)
	case n < 93:
		c.Drain(time.Second, ReasonReload)
	case n < 94:
		c.Abort()
	case n < 96:
		time.Sleep(time.Duration(m.rng.IntN(6)) * time.Second)
	default:
		time.Sleep(time.Duration(m.rng.IntN(50)) * time.Millisecond)
	}
	m.look()
}

func one[T any](m *model, of []T) T { return of[m.rng.IntN(len(of))] }

// look has every client read what it was sent, and reconnect if its stream has
// ended.
func (m *model) look() {
	synctest.Wait()
	for _, c := range slices.Clone(m.clients) {
		m.read(c, c.received(true))
		select {
		case <-c.Done():
			m.ended(c)
		default:
		}
	}
}

func (m *model) publish(n int) {
	var ops []broker.Op
	var entries []modelEntry
	for range n {
		e := modelEntry{channel: one(m, modelTargets), typ: one(m, modelTypes)}
		data := strconv.Itoa(len(m.log)+len(entries)) + strings.Repeat("\nx", m.rng.IntN(60))
		ops = append(ops, broker.Op{Kind: broker.KindEvent, Channel: e.channel, Event: sse.Event{Type: e.typ, Data: []byte(data)}})
		entries = append(entries, e)
	}
	results, err := m.broker.Publish(context.Background(), ops)
	if err != nil {
		m.t.Fatal(err)
	}
	for i, r := range results {
		entries[i].id = r.ID.String()
	}
	m.log = append(m.log, entries...)
}

func (m *model) push(c *modelClient) {
	m.pushes++
	data := "pushed " + strconv.Itoa(m.pushes)
	if c.Push(context.Background(), sse.Event{Data: []byte(data)}) == nil {
		c.pushed = append(c.pushed, data)
	}
}

// arrive connects a new client.
func (m *model) arrive() *modelClient {
	c := &modelClient{names: one(m, modelNames), at: len(m.log) - 1, lost: -1}
	if m.rng.IntN(4) == 0 {
		c.types = []string{"goal"}
	}
	m.connect(c)
	return c
}

// connect opens a stream where the client left off.
func (m *model) connect(c *modelClient) {
	o := Options{Subscribe: broker.SubscribeOptions{Channels: c.names, Types: c.types}}
	if o.Subscribe.Start.LastEventID = c.last; c.last != "" {
		m.resumes++
	} else {
		c.at = len(m.log) - 1 // it has read nothing yet, and begins now
	}
	if m.rng.IntN(3) == 0 {
		o.MaxAge = time.Minute
	}
	m.cuts++
	c.served, c.fed, c.opened, c.pushed, c.begged, c.told = open(m.t, m.server, o), 0, false, nil, 0, false
	if m.rng.IntN(5) == 0 {
		c.stallAfter(m.rng.IntN(100))
	}
	synctest.Wait()
}

// received returns what has reached a client for sure, which is what was flushed
// or is a rawConn's, or else what may have reached it.
func (c *client) received(sure bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := strings.Join(c.frames, "")
	if c.stream != nil || !sure {
		all += string(c.unsent)
	}
	return all
}

// cut hangs up at any moment, in the middle of an event or not.
func (m *model) cut(c *modelClient) {
	all := c.received(m.rng.IntN(2) == 0)
	m.read(c, all[:c.fed+m.rng.IntN(len(all)-c.fed+1)])
	m.leave(c)
	if m.rng.IntN(3) == 0 {
		return
	}
	m.clients = append(m.clients, c)
	m.connect(c)
}

// leave has a client hang up, and not reconnect.
func (m *model) leave(c *modelClient) {
	m.clients = slices.DeleteFunc(m.clients, func(x *modelClient) bool { return x == c })
	c.hangUp()
	c.leave()
	<-c.Done()
	m.reasons[c.Reason()]++
}

// ended checks a stream that the server has ended, and reconnects.
func (m *model) ended(c *modelClient) {
	m.reasons[c.Reason()]++
	c.client.mu.Lock()
	stalled := c.stalled
	c.client.mu.Unlock()
	if !c.told && !c.stopped && !stalled {
		m.t.Errorf("a stream of %v ended for %q, and the client was not told", c.names, c.Reason())
	}
	m.clients = slices.DeleteFunc(m.clients, func(x *modelClient) bool { return x == c })
	if !c.stopped {
		m.clients = append(m.clients, c)
		m.connect(c)
	}
}

// settle has a client take everything, and checks that it has everything.
func (m *model) settle(c *modelClient) {
	c.release()
	time.Sleep(100 * time.Millisecond) // a writer may pause between passes
	m.look()
	if !slices.Contains(m.clients, c) || !c.opened {
		return // its stream has ended, and it may have reconnected
	}
	m.complete(c, len(m.log)-1, "has nothing more to read")
	if len(c.pushed) > 0 {
		m.t.Errorf("%v did not get %q", c.names, c.pushed)
	}
	if rest := c.received(false)[c.fed:]; rest != "" {
		m.t.Errorf("%v is left with %q", c.names, rest)
	}
}

// read reads whole events, and comments and reconnect delays without an event, from
// all that has come over the connection.
func (m *model) read(c *modelClient, all string) {
	fresh := all[c.fed:]
	end := 0
	if i := strings.LastIndex(fresh, "\n\n"); i >= 0 {
		end = i + 2
	}
	for line := range strings.Lines(fresh[end:]) {
		if !strings.HasSuffix(line, "\n") || !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "retry: ") {
			break
		}
		end += len(line)
	}
	c.fed += end
	d := sse.NewDecoder(strings.NewReader(fresh[:end]), 1<<20)
	for {
		e, err := d.Next()
		if err != nil {
			break // no whole event is left
		}
		if id := d.LastEventID(); id != "" {
			c.last = id
		}
		m.take(c, e)
	}
	c.told = strings.Count(all[:c.fed], "retry: ") > 1 // the opening has one
}

// take checks one event.
func (m *model) take(c *modelClient, e sse.Event) {
	if !c.opened {
		c.opened = true
		if e.Type != "evstream.open" {
			m.t.Errorf("%v: the stream opens with %+v", c.names, e)
		}
		m.complete(c, m.index(e.ID), "opens at "+e.ID)
		return
	}
	switch data, _, _ := strings.Cut(string(e.Data), "\n"); {
	case e.Type == "evstream.gap":
		m.gap(c, data)
	case e.Type == "evstream.at":
		m.complete(c, m.index(e.ID), "is told "+e.ID)
	case e.Type == "end":
		c.stopped = true
		m.complete(c, c.begged-1, "is told to go")
	case len(c.pushed) > 0 && data == c.pushed[0]:
		c.pushed = c.pushed[1:]
	default:
		m.event(c, e, data)
	}
}

// event checks an event that was published.
func (m *model) event(c *modelClient, e sse.Event, data string) {
	i, err := strconv.Atoi(data)
	switch {
	case err != nil || i < 0 || i >= len(m.log) || m.log[i].id != e.ID || m.log[i].typ != e.Type ||
		strings.Trim(string(e.Data[len(data):]), "\nx") != "":
		m.t.Errorf("%v got %+v, which nobody published", c.names, e)
	case !c.wants(&m.log[i]):
		m.t.Errorf("%v %v got %+v, which is not for it", c.names, c.types, m.log[i])
	case i <= c.at:
		m.t.Errorf("%v got event %d again, or late: it was at %d", c.names, i, c.at)
	default:
		m.complete(c, i-1, "got event "+data)
		c.at = i
	}
}

// gap records the gap that a client is told of.
func (m *model) gap(c *modelClient, data string) {
	m.gaps++
	var told struct{ Reason, Newest string }
	if err := json.Unmarshal([]byte(data), &told); err != nil || told.Reason != broker.ReasonTrimmed {
		m.t.Errorf("%v is told of the gap %s, %v", c.names, data, err)
	}
	c.lost = len(m.log) - 1
	if told.Newest != "" {
		c.lost = m.index(told.Newest)
	}
	if c.lost-c.at <= modelKept && !slices.ContainsFunc(c.names, channel.IsPattern) {
		m.t.Errorf("%v at %d is told of a gap up to %d", c.names, c.at, c.lost)
	}
}

// complete checks that a client has got all entries for it up to an index, but for
// those that it was told are lost.
func (m *model) complete(c *modelClient, to int, when string) {
	for i := c.at + 1; i <= to; i++ {
		if i > c.lost && c.wants(&m.log[i]) {
			m.t.Errorf("%v %v %s, and did not get event %d of %d on %s", c.names, c.types, when, i, len(m.log), m.log[i].channel)
		}
	}
	c.at = max(c.at, to)
}

// index returns the index in the log of an event id, -1 for the origin.
func (m *model) index(id string) int {
	for i, e := range slices.Backward(m.log) {
		if e.id == id {
			return i
		}
	}
	if id != m.origin {
		m.t.Errorf("nothing has the id %q", id)
	}
	return -1
}

func (c *modelClient) wants(e *modelEntry) bool {
	return (c.types == nil || slices.Contains(c.types, e.typ)) && slices.ContainsFunc(c.names, func(name string) bool {
		return modelMatch(name, e.channel)
	})
}

// modelMatch does not use broker's patterns: it lists the channels that each name
// matches.
func modelMatch(name, target string) bool {
	channels := map[string][]string{
		"**":   modelChannels,
		"*":    {"a", "b", "c"},
		"a/*":  {"a/x", "a/y"},
		"a/**": {"a", "a/x", "a/y", "a/x/1"},
	}[name]
	if channels == nil {
		channels = []string{name}
	}
	return slices.ContainsFunc(channels, func(channel string) bool {
		above, beneath := strings.CutSuffix(target, "/")
		return channel == above || beneath && strings.HasPrefix(channel, target)
	})
}
