package presence

import (
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Table is who is in which channel. Its methods are safe for concurrent use. Close it
// when it is not needed any more.
//
// Table.mu is a leaf: nothing is locked while it is held, and nobody is called.
type Table struct {
	config Config
	rules  atomic.Pointer[Rules]

	ctx     context.Context // of the loop, and of what it tells other nodes
	cancel  context.CancelFunc
	run     sync.WaitGroup
	kick    chan struct{} // wakes the loop
	observe atomic.Pointer[func([]Change)]

	mu      sync.Mutex // guards what follows
	running bool       // the loop is
	closed  bool
	armed   time.Time // when the loop wakes by itself
	rooms   map[string]*room
	own     int // members of rooms that have sessions on this node, or had
	unnamed int // sessions without a user in rooms

	holds    holds
	heldBy   map[string]int // holds by share
	longest  time.Duration  // that a session was held
	logMeta  time.Time      // when it was last logged that metadata is too large
	due      map[*room]struct{}
	dueAt    time.Time // when the first of due is; zero for none
	arrivals []arrival
	peers    peers

	observeOwn func([]Own)
	moved      map[metaKey]struct{} // members that have come to this node or gone, and are to be told to observeOwn
}

// Config is what a Table needs of the hub around it.
type Config struct {
	// Node is the name of this node; "" if it is the only one. Then the other
	// functions are not called.
	Node string
	// Tell tells all nodes something, which each passes to Hear.
	Tell func(context.Context, []byte) error
	// Members are the nodes that live; false if they are not known for sure.
	Members func() ([]string, bool)
	// Ready reports whether Tell may succeed.
	Ready func() bool
	// MaxNotice bounds what Tell takes, in bytes.
	MaxNotice int

	Logger *slog.Logger
}

// Sink is a session that is told who comes and goes.
type Sink interface {
	// OfferBlock sends encoded events to the session, or returns false at once if it
	// has no room for them. It must not keep or change them.
	OfferBlock(block []byte) bool
}

// Session is the part of a session in presence. Whoever makes it sets the exported
// fields and does not change them then.
type Session struct {
	User   string          // "" for none
	Claims map[string]any  // of the credential
	Meta   json.RawMessage // of CheckMeta; nil for what the policy takes of Claims
	Share  string          // names who is bounded together
	Sink   Sink

	rooms []*room // Table.mu guards it
}

// New returns a table without rules: no channel has presence.
func New(c Config) *Table {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	t := &Table{
		config: c, kick: make(chan struct{}, 1),
		rooms: make(map[string]*room), heldBy: make(map[string]int), due: make(map[*room]struct{}),
	}
	t.peers.init()
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Active reports whether some channel has presence.
func (t *Table) Active() bool { return t.rules.Load() != nil }

// Has reports whether a channel has presence.
func (t *Table) Has(name string) bool { return t.rules.Load().policy(name) != nil }

// SetRules replaces the rules. Channels that have presence no more are empty then;
// sessions in those that have it from now on are the caller's to add.
func (t *Table) SetRules(rules *Rules) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || reflect.DeepEqual(t.rules.Load(), rules) {
		return
	}
	t.rules.Store(rules)
	now := time.Now()
	for name, r := range t.rooms {
		if p := rules.policy(name); p != nil {
			r.policy = p
			t.setDue(r, now)
		} else {
			t.dropRoom(r)
		}
	}
	if rules == nil {
		t.peers.forget()
	} else if t.config.Node != "" {
		t.peers.startOver()
	}
	if !t.running {
		t.running = true
		t.run.Go(t.loop)
	}
	t.wake(now)
}

// Observe has f called with who comes and goes in channels whose members are known by
// name, at most once a second and channel, in order and from one goroutine; nil is
// nobody. f may block, which holds up what sessions are told. All nodes see the same
// changes, each at a moment of its own. Of channels in which somebody is when it begins,
// those who are there may come as changes or not.
func (t *Table) Observe(f func([]Change)) {
	if f == nil {
		t.observe.Store(nil)
		return
	}
	t.observe.Store(&f)
}

// Change says that a user has come to a channel, or has left it.
type Change struct {
	Channel string
	User    string
	Joined  bool // else it has left
	Count   int  // of members and sessions without a user, after it
	Meta    json.RawMessage
}

// Close stops the table. Other nodes are told to forget the members of this one after
// as long as it has held one of them; that takes no longer than ctx.
func (t *Table) Close(ctx context.Context) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.run.Wait()
	t.sayGoodbye(ctx)
}

// Join adds a session to a channel, if that has presence. With watch the session is
// told who is there, and then who comes and goes. It does nothing for a session that
// is there already.
func (t *Table) Join(s *Session, name string, watch bool) {
	if !t.Active() {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.rules.Load().policy(name)
	s.rooms = slices.DeleteFunc(s.rooms, func(r *room) bool { return t.rooms[r.name] != r }) // had presence once
	if p == nil || t.closed || slices.ContainsFunc(s.rooms, func(r *room) bool { return r.name == name }) {
		return
	}
	r := t.room(name, p)
	s.rooms = append(s.rooms, r)
	if s.named() {
		t.addOwn(r, s, now)
	} else {
		if r.unnamedHeld > 0 {
			r.unnamedHeld--
			r.unnamedBack++
			t.unnamed--
		}
		r.unnamed++
		t.unnamed++
		t.changedUnnamed(r, now)
	}
	if watch && s.Sink != nil {
		if r.watchers == nil {
			r.watchers = make(map[*Session]*watcher)
		}
		w := &watcher{sink: s.Sink}
		r.watchers[s] = w
		t.arrivals = append(t.arrivals, arrival{r, s, w})
		t.wake(now)
	}
}

// named reports whether the session is of a member.
func (s *Session) named() bool { return s.User != "" && len(s.User) <= MaxUser }

// addOwn counts a session of a member.
func (t *Table) addOwn(r *room, s *Session, now time.Time) {
	m := r.members[s.User]
	if m == nil {
		m = new(member)
		r.members[s.User] = m
	}
	if !m.here {
		m.here = true
		t.own++
		t.moves(r, s.User, now)
		meta, fits := s.Meta, true
		if meta == nil {
			meta, fits = r.policy.metaOf(s.Claims)
		}
		if !fits && now.Sub(t.logMeta) >= time.Minute {
			t.logMeta = now
			t.config.Logger.Warn("the claims for a member's metadata are too large: it has none",
				slog.String("channel", r.name), slog.Int("bound", MaxMeta))
		}
		m.own = row{since: now.UnixMilli(), meta: meta}
		for _, other := range m.others {
			if other.metaAt > m.own.metaAt {
				m.own.meta, m.own.metaAt = other.meta, other.metaAt
			}
		}
	}
	m.own.sessions++
	t.changedOwn(r, s.User, now)
}

// Leave removes a session from a channel. It is a member still for the grace of the
// channel, and reconnects longer where the session was told to reconnect within that
// time; if reconnects is below 0, it is none at once.
func (t *Table) Leave(s *Session, name string, reconnects time.Duration) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.rooms = slices.DeleteFunc(s.rooms, func(r *room) bool {
		if r.name != name {
			return false
		}
		t.leave(r, s, reconnects, now)
		return true
	})
}

// LeaveAll is Leave for all channels of the session.
func (t *Table) LeaveAll(s *Session, reconnects time.Duration) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range s.rooms {
		t.leave(r, s, reconnects, now)
	}
	s.rooms = nil
}

func (t *Table) leave(r *room, s *Session, reconnects time.Duration, now time.Time) {
	if t.rooms[r.name] != r || t.closed {
		return // it has no presence any more, or the node has left
	}
	delete(r.watchers, s)
	until := now
	if reconnects >= 0 {
		until = now.Add(r.policy.Grace + reconnects)
		t.longest = max(t.longest, until.Sub(now))
	}
	if !s.named() {
		r.unnamed--
		if until.After(now) && t.hold(hold{at: until, room: r, share: s.Share}, now) {
			r.unnamedHeld++
		} else {
			t.unnamed--
		}
		t.changedUnnamed(r, now)
		t.sweep(r)
		return
	}
	m := r.members[s.User]
	if m.own.sessions--; m.own.sessions == 0 {
		m.until = until
		switch {
		case m.queued: // its hold looks at until
		case until.After(now) && t.hold(hold{at: until, room: r, user: s.User, share: s.Share}, now):
			m.queued = true
		default:
			t.removeOwn(r, s.User, m, now)
		}
	}
	t.changedOwn(r, s.User, now)
	t.sweep(r)
}

// removeOwn removes a member from this node.
func (t *Table) removeOwn(r *room, user string, m *member, now time.Time) {
	m.here, m.own = false, row{}
	t.own--
	t.moves(r, user, now)
	if len(m.others) == 0 {
		delete(r.members, user)
	}
}

// Stats are the members and the sessions without a user that channels have on this
// node, each once for each channel, and how many channels have some on any node.
type Stats struct{ Members, Unnamed, Channels int }

// Stats returns the numbers of the table.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{t.own, t.unnamed, len(t.rooms)}
}
