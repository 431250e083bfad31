package hub

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Which channels are read on any node. Each node tells in the log which channels it
// begins and ceases to read. As all nodes hear that in the same order, they agree on
// the notice with which a channel gets its first reader or loses its last one, and the
// node that sent that notice tells its observer. When a node dies, the one that leads
// sends a notice that takes out what it read. So each change is told once, whatever
// happens at the same time on other nodes.

// aboutReaders is the subject of notices of activity.
const aboutReaders = "readers"

const (
	// idleAfter is how long a channel has no reader before that is told: a page that
	// is loaded again changes nothing.
	idleAfter = time.Second
	// activityRetry is when a notice is sent again that the log did not take.
	activityRetry = time.Second
	// membersEvery is how often dead nodes are looked for.
	membersEvery = 2 * time.Second
	// helloPatience bounds how long a node that starts waits to hear what others read.
	helloPatience = 5 * time.Second
	// noticeNames bounds the names of channels in one notice: of 255 bytes, and escaped,
	// they fit.
	noticeNames = 40
)

// readersNotice is what a node tells of the channels that it reads.
type readersNotice struct {
	Node   string   `json:"node"`
	Active []string `json:"active,omitempty"`
	Idle   []string `json:"idle,omitempty"`
	// Hello asks all nodes to list what they read. A list is a notice with Begin,
	// some with Active, and one with End: what is not in it is not read.
	Hello bool `json:"hello,omitempty"`
	Begin bool `json:"begin,omitempty"`
	End   bool `json:"end,omitempty"`
	// Gone is a node that has died, or does not observe any more.
	Gone string `json:"gone,omitempty"`
}

// activity is a hub's part in what nodes tell each other of readers, or of members.
type activity struct {
	kind      activityKind
	switching sync.Mutex // held by start and stop

	mu       sync.Mutex // guards what follows; a leaf, but for the locks of the observer and of the presence table
	observer Observer   // nil when it is off
	cancel   context.CancelFunc
	over     chan struct{}          // closed when run has returned
	kick     chan struct{}          // receives when there is something new to do
	own      map[string]*ownChannel // channels of this node; see admit
	dirty    map[string]struct{}    // those of own that may have to be told
	count    map[string]int         // how many nodes read a channel, as the log says
	nodes    map[string]*nodeReads
	waiting  bool // to hear what others read: nothing is told yet
	hello    bool // has to be sent
	list     bool // of what this node reads has to be sent
	flushing bool // channels become idle at once
	bound    activityBound
}

// ownChannel is a channel of this node.
type ownChannel struct {
	read  bool
	told  bool      // the other nodes believe that it is read
	since time.Time // of read
}

// nodeReads are the channels that a node reads, as the log says, each with the number of
// the list that had it last.
type nodeReads struct {
	channels map[string]uint64
	list     uint64
	listed   bool // a list of it was heard to its end
}

// start begins to tell an observer, or goes on with another one.
func (a *activity) start(h *Hub, o Observer) {
	a.switching.Lock()
	defer a.switching.Unlock()
	a.mu.Lock()
	if a.observer != nil {
		a.observer = o
		a.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(h.cluster.ctx)
	shared := h.broker.Node() != ""
	a.observer, a.cancel, a.over, a.kick = o, cancel, make(chan struct{}), make(chan struct{}, 1)
	a.own, a.dirty = make(map[string]*ownChannel), make(map[string]struct{})
	a.count, a.nodes = make(map[string]int), make(map[string]*nodeReads)
	a.waiting, a.hello, a.list, a.flushing = shared, shared, shared, false
	over := a.over
	a.mu.Unlock()
	a.kind.watch(h, true)
	if !h.cluster.goTask(func(context.Context) { defer close(over); a.run(ctx, h) }) {
		close(over)
	}
}

// stop ends what start began. Other nodes take this one for one without readers then.
func (a *activity) stop(h *Hub) {
	a.switching.Lock()
	defer a.switching.Unlock()
	a.mu.Lock()
	on, cancel, over := a.observer != nil, a.cancel, a.over
	a.observer = nil
	a.mu.Unlock()
	if !on {
		return
	}
	a.kind.watch(h, false)
	cancel()
	<-over
	if node := h.broker.Node(); node != "" && a.kind.holds == nil {
		h.cluster.goTask(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			_ = a.tell(ctx, h, &readersNotice{Node: node, Gone: node}) // or it seems to read on until it ends
		})
	}
}

// brokerObserver is an activity as the broker sees it.
type brokerObserver activity

// ChannelReaders implements broker.Observer.
func (o *brokerObserver) ChannelReaders(name string, readers int) {
	(*activity)(o).setReaders(name, readers)
}

// StateChanged implements broker.Observer.
func (o *brokerObserver) StateChanged(c broker.StateChange) {
	a := (*activity)(o)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.observer != nil {
		a.observer.StateChanged(c)
	}
}

func (a *activity) setReaders(name string, readers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.own[name]
	if a.observer == nil || c == nil && readers == 0 || c != nil && c.read == (readers > 0) {
		return
	}
	if c == nil {
		if !a.admit(len(a.own), a.kind.most) {
			return
		}
		c = new(ownChannel)
		a.own[name] = c
	}
	c.read, c.since = readers > 0, time.Now()
	a.dirty[name] = struct{}{}
	a.wake()
}

// wake has run look for what to do. activity.mu is held.
func (a *activity) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// run tells the log what this node reads, until ctx ends.
func (a *activity) run(ctx context.Context, h *Hub) {
	started := time.Now()
	failing := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	looked := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-a.kick:
		}
		var notices []*readersNotice
		wait := time.Hour
		if h.broker.Node() != "" {
			wait = membersEvery
			if time.Since(looked) >= membersEvery {
				looked = time.Now()
				notices = a.deadNodes(h)
			}
			a.await(h, time.Since(started) > helloPatience)
		}
		a.sayFull(h)
		more, next := a.due(h.broker.Node(), time.Now())
		for _, n := range append(notices, more...) {
			if err := a.tell(ctx, h, n); err != nil {
				if ctx.Err() != nil {
					return
				}
				if !failing {
					a.kind.log(h, err)
				}
				failing, next = true, activityRetry
				a.mu.Lock()
				a.list = true // what was not told is in it
				a.mu.Unlock()
				break
			}
			if failing {
				failing = false
				a.kind.log(h, nil)
			}
		}
		timer.Reset(min(wait, next))
	}
}

// due returns what has to be told now, and how long nothing else has.
func (a *activity) due(node string, now time.Time) (notices []*readersNotice, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait = time.Hour
	if a.hello {
		a.hello = false
		notices = append(notices, &readersNotice{Node: node, Hello: true})
	}
	if a.waiting {
		return notices, 100 * time.Millisecond
	}
	add := func(name string, read bool) {
		if n := len(notices); n == 0 || notices[n-1].Hello || notices[n-1].Begin || len(notices[n-1].Active)+len(notices[n-1].Idle) == a.kind.names {
			notices = append(notices, &readersNotice{Node: node})
		}
		if n := notices[len(notices)-1]; read {
			n.Active = append(n.Active, name)
		} else {
			n.Idle = append(n.Idle, name)
		}
	}
	tell := func(name string, c *ownChannel) {
		if c.told = c.read; !c.read {
			delete(a.own, name)
		}
		delete(a.dirty, name)
	}
	if a.list {
		a.list = false
		notices = append(notices, &readersNotice{Node: node, Begin: true})
		for name, c := range a.own {
			if c.read {
				add(name, true)
			}
			tell(name, c)
		}
		return append(notices, &readersNotice{Node: node, End: true}), wait
	}
	for name := range a.dirty {
		c := a.own[name]
		if left := a.kind.after - now.Sub(c.since); c.told && !c.read && left > 0 && !a.flushing {
			wait = min(wait, left)
			continue
		}
		if c.told != c.read {
			add(name, c.read)
		}
		tell(name, c)
	}
	return notices, wait
}

// tell sends a notice; without other nodes it is heard at once.
func (a *activity) tell(ctx context.Context, h *Hub, n *readersNotice) error {
	if h.broker.Node() == "" {
		a.hear(n, "")
		return nil
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return h.broker.Tell(ctx, a.kind.about, data)
}

// deadNodes are notices of nodes that have died, if it is this node that leads.
func (a *activity) deadNodes(h *Hub) (notices []*readersNotice) {
	members, known := h.broker.Members()
	if !known || len(members) == 0 || members[0] != h.broker.Node() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for node := range a.nodes {
		if !slices.Contains(members, node) && (a.kind.holds == nil || !a.kind.holds(h, node)) {
			notices = append(notices, &readersNotice{Node: members[0], Gone: node})
		}
	}
	return notices
}

// await ends the waiting when all other nodes have said what they read, or it has
// lasted too long: one that does not observe says nothing.
func (a *activity) await(h *Hub, tooLong bool) {
	members, known := h.broker.Members()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = a.waiting && !tooLong && !(known && !slices.ContainsFunc(members, func(node string) bool {
		return node != h.broker.Node() && (a.nodes[node] == nil || !a.nodes[node].listed)
	}))
}

// FlushActivity has the observer told at once of channels that have no reader any more,
// and, where there is no other node, that all members have left; it waits for that or
// until ctx ends. Hubs that exit call it.
func (h *Hub) FlushActivity(ctx context.Context) {
	h.activity.flush(ctx)
	if h.broker.Node() == "" {
		h.members.endAll()
		h.members.flush(ctx)
	}
}

func (a *activity) flush(ctx context.Context) {
	looks := time.NewTicker(5 * time.Millisecond)
	defer looks.Stop()
	for {
		a.mu.Lock()
		open := a.observer != nil && !a.waiting && len(a.dirty) > 0
		if a.flushing = true; open {
			a.wake()
		}
		a.mu.Unlock()
		if !open {
			return
		}
		select {
		case <-looks.C:
		case <-ctx.Done():
			return
		}
	}
}
