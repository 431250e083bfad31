package broker

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// The model of several nodes is the list of entries that their log has. Clients
// read at one node, are cut, and go on at another one, while nodes lag, nodes
// come, the log loses its end, and its beginning is trimmed. What a client is
// not told by a gap must come: in order, none missing, none twice.

const sharedSteps = 4000

func TestModelOfSeveralNodes(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runShared(t, seed) })
	}
}

var (
	sharedChannels = []string{"a", "b", "a/x", "off/1", "few/1", "few/2"}
	sharedNames    = append([]string{"**", "a/**", "few/*"}, sharedChannels...)
)

type sharedClient struct {
	sub    *Subscription
	node   *sharedNode
	names  []string
	cursor string // what it would send back
	// at is the position up to which it has had all, or was told of it.
	at ID
	// excused is the newest id that may be missing, because a gap was announced
	// when the node had come so far. due is the reason of a gap that must come.
	excused ID
	due     string
}

type sharedModel struct {
	t       *testing.T
	rng     *rand.Rand
	log     *sharedLog
	cfg     Config
	clients []*sharedClient
	away    []*sharedClient
	n       int

	void   map[ID]bool
	events []Entry // all that ever stood, and does
	counts map[string]int
}

func runShared(t *testing.T, seed uint64) {
	cfg := DefaultConfig()
	cfg.History = Policy{Events: 1000, Bytes: 1 << 20}
	few := Policy{Events: 3, Bytes: 1 << 20}
	cfg.Rules = []Rule{{Pattern: "off/**", Policy: Policy{Bytes: 1 << 20}}, {Pattern: "few/**", Policy: few}}
	m := &sharedModel{
		t: t, rng: rand.New(rand.NewPCG(seed, 3)), cfg: cfg,
		void: map[ID]bool{}, counts: map[string]int{},
	}
	m.log = newSharedLog(t, func(name string) Policy {
		switch {
		case strings.HasPrefix(name, "off/"):
			return Policy{}
		case strings.HasPrefix(name, "few/"):
			return few
		}
		return cfg.History
	})
	m.log.join("n0", cfg)
	m.log.join("n1", cfg)
	for range sharedSteps {
		m.step()
		if t.Failed() {
			return
		}
	}
	for _, c := range m.clients {
		_ = c.node.Sync(context.Background())
		m.read(c)
		m.complete(c)
	}
	t.Logf("%v", m.counts)
	for _, what := range []string{"trimmed", "diverged", "delivered", "resumed elsewhere", "lost", "joined"} {
		if m.counts[what] < 3 {
			t.Errorf("%s: only %d times", what, m.counts[what])
		}
	}
}

func (m *sharedModel) node() *sharedNode { return m.log.nodes[m.rng.IntN(len(m.log.nodes))] }

func (m *sharedModel) step() {
	switch p := m.rng.IntN(1000); {
	case p < 450:
		m.publish()
	case p < 650:
		m.node().step(1 + m.rng.IntN(5))
	case p < 900 && len(m.clients) > 0:
		m.read(m.clients[m.rng.IntN(len(m.clients))])
	case p < 940 && len(m.clients)+len(m.away) < 12:
		m.subscribe(&sharedClient{})
	case p < 960 && len(m.clients) > 0:
		m.leave(m.clients[m.rng.IntN(len(m.clients))])
	case p < 975 && len(m.away) > 0:
		i := m.rng.IntN(len(m.away))
		c := m.away[i]
		m.away = slices.Delete(m.away, i, i+1)
		m.subscribe(c)
	case p < 980:
		m.lose()
	case p < 990:
		policies := []Policy{{}, m.cfg.History, m.cfg.Rules[1].Policy}
		looked := m.rng.IntN(len(m.log.entries) + 1)
		if m.rng.IntN(2) == 0 {
			looked = len(m.log.entries)
		}
		m.log.trim(policies[m.rng.IntN(3)], looked)
	default:
		m.replace()
	}
}

// leave cuts a client, which comes back some time.
func (m *sharedModel) leave(c *sharedClient) {
	c.sub.Close()
	m.clients = slices.DeleteFunc(m.clients, func(other *sharedClient) bool { return other == c })
	m.away = append(m.away, c)
}

// replace ends a node, and has another one begin, or only that.
func (m *sharedModel) replace() {
	if n := m.node(); len(m.log.nodes) > 3 {
		for _, c := range slices.Clone(m.clients) {
			if c.node == n {
				m.leave(c)
			}
		}
		_ = n.b.Close()
		m.log.nodes = slices.DeleteFunc(m.log.nodes, func(other *sharedNode) bool { return other == n })
	}
	m.counts["joined"]++
	m.log.join(fmt.Sprint("n", m.counts["joined"]), m.cfg)
}

func (m *sharedModel) publish() {
	m.n++
	node := m.node()
	name := sharedChannels[m.rng.IntN(len(sharedChannels))]
	if _, err := node.b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: name, Event: sse.Event{Data: fmt.Append(nil, m.n)}}}); err != nil {
		m.t.Fatal(err)
	}
	m.events = append(m.events, m.log.entries[len(m.log.entries)-1])
}

// lose has the log lose its end. Readers at a node that has applied some of it must
// get a gap.
func (m *sharedModel) lose() {
	m.counts["lost"]++
	m.log.lose(1 + m.rng.IntN(4))
	kept := m.log.floor()
	for _, e := range m.events {
		if e.ID.After(kept) {
			m.void[e.ID] = true
		}
	}
	m.events = slices.DeleteFunc(m.events, func(e Entry) bool { return m.void[e.ID] })
	for _, c := range m.clients {
		if c.node.voided {
			c.due = ReasonDiverged
		}
	}
}

// floor is the newest entry that the log has, or has trimmed.
func (l *sharedLog) floor() ID {
	id := l.born
	for _, mark := range l.floors {
		id = latest(id, mark)
	}
	if n := len(l.entries); n > 0 {
		id = latest(id, l.entries[n-1].ID)
	}
	return id
}

func (m *sharedModel) subscribe(c *sharedClient) {
	was := c.node
	c.node = m.node()
	if len(c.names) == 0 {
		for len(c.names) < 1+m.rng.IntN(3) {
			if name := sharedNames[m.rng.IntN(len(sharedNames))]; !slices.Contains(c.names, name) {
				c.names = append(c.names, name)
			}
		}
	}
	if was != nil && was != c.node {
		m.counts["resumed elsewhere"]++
	}
	b := c.node.b
	if err := b.Reach(context.Background(), Start{LastEventID: c.cursor}); err != nil {
		m.t.Fatal(err)
	}
	var err error
	if c.sub, err = b.Subscribe(SubscribeOptions{Channels: c.names, Start: Start{LastEventID: c.cursor}}); err != nil {
		m.t.Fatal(err)
	}
	c.excused, c.due = ID{}, ""
	if c.at, _ = ParseID(c.cursor); c.cursor == "" {
		c.at = c.sub.Start()
	}
	cursor, _ := ParseID(c.cursor)
	if c.node.voided || m.void[cursor] && c.node.seen(cursor) && cursor.After(c.node.b.missing.most) {
		c.due = ReasonDiverged
	}
	m.clients = append(m.clients, c)
	if !c.sub.Strange() {
		c.cursor = c.sub.Start().String() // as evstream.open has it
	}
}

func (m *sharedModel) read(c *sharedClient) {
	for batch := (Batch{Decode: true, Max: 1 + m.rng.IntN(5)}); ; {
		if err := c.sub.Read(&batch); err != nil {
			m.t.Fatal(err)
		}
		if batch.Gap != nil {
			m.gap(c, batch.Gap)
		}
		for _, d := range batch.Deliveries {
			m.deliver(c, d)
		}
		if !batch.More {
			break
		}
	}
	if at := c.sub.Cursor(); !m.t.Failed() && !c.node.voided {
		m.moved(c, at)
	}
}

func (m *sharedModel) gap(c *sharedClient, g *Gap) {
	m.counts[g.Reason]++
	if c.due != "" && !c.node.voided {
		if g.Reason != c.due {
			m.t.Fatalf("a gap is %s, want %s", g.Reason, c.due)
		}
		c.due = ""
	}
	c.excused = c.node.b.Head()
	if cursor, ok := ParseID(c.cursor); g.Reason == ReasonDiverged && ok && m.void[cursor] {
		c.at = ID{} // it goes on from the oldest, or from what was not lost
	}
}

func (m *sharedModel) deliver(c *sharedClient, d Delivery) {
	m.counts["delivered"]++
	if d.Event.ID != "" {
		defer func() { c.cursor = d.Event.ID }()
	}
	if c.due != "" && !c.node.voided {
		m.t.Fatalf("%s of %s came before the gap that is due", d.ID, d.Channel)
	}
	if m.void[d.ID] {
		if !c.node.voided {
			m.t.Fatalf("%s of %s was lost, and the node knows", d.ID, d.Channel)
		}
		return
	}
	if !d.ID.After(c.at) {
		m.t.Fatalf("%s of %s came again, after %s", d.ID, d.Channel, c.at)
	}
	i := slices.IndexFunc(m.events, func(e Entry) bool { return e.ID == d.ID })
	if i < 0 || m.events[i].Channel != d.Channel || !bytes.Equal(m.events[i].Event.Data, d.Event.Data) {
		m.t.Fatalf("%s of %s is not what was published", d.ID, d.Channel)
	}
	m.moved(c, ID{d.ID.Ms - 1, d.ID.N})
	c.at = d.ID
}

// moved has a client be past all up to id: what it was to get has come, or was
// told to be missing.
func (m *sharedModel) moved(c *sharedClient, id ID) {
	for _, e := range m.events {
		if e.ID.After(c.at) && !e.ID.After(id) && c.reads(e.Channel) && e.ID.After(c.excused) {
			m.t.Fatalf("%s of %s is missing at %s, without a word; read %v", e.ID, e.Channel, id, c.names)
		}
	}
	c.at = latest(c.at, id)
}

func (c *sharedClient) reads(ch string) bool {
	return slices.ContainsFunc(c.names, func(name string) bool {
		p, err := channel.ParsePattern(name)
		return err == nil && p.Match(ch)
	})
}

// complete holds a client that has read all against what there is.
func (m *sharedModel) complete(c *sharedClient) {
	if c.due != "" {
		m.t.Errorf("the gap %s never came", c.due)
	}
	m.moved(c, m.log.floor())
	if strings.Contains(c.cursor, "\x00") {
		m.t.Error("a cursor is nonsense")
	}
}
