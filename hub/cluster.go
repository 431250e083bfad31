package hub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// Nodes that share a log talk to each other through it, in two ways. Facts are kept
// by the log, and known to all nodes: who is revoked, and which tickets are in use.
// Notices are not kept: a call asks the node of a session to do something with it,
// and a reply says what came of it. All nodes receive them, and ignore those that
// are for others. Whoever can write to the log can forge facts and notices, as it
// can publish anything, and whoever can read it sees them: they never contain a
// credential.
//
// A hub whose log nobody shares does the same with itself as the only node.

// The values of broker.Notice.About for notices.
const (
	aboutCall  = "call"
	aboutReply = "answer"

	aboutPresence = "presence"
)

// ErrBehind is the error of a caller who cannot be let in yet, because this node has
// not read from the log who is revoked or which tickets are in use.
var ErrBehind = fmt.Errorf("%w: this node has not read yet what other nodes have revoked, and which tickets they use", broker.ErrUnavailable)

// cluster is a hub's part in what nodes tell each other.
type cluster struct {
	settled chan struct{} // closed when all facts were heard that the log had at first
	once    sync.Once     // closes settled

	ctx    context.Context // of tasks; it ends with the hub
	cancel context.CancelFunc
	run    sync.WaitGroup

	mu       sync.Mutex                // guards what follows
	ended    bool                      // no task is started any more
	handling int                       // how many calls of other nodes are being handled
	open     map[string]chan callReply // calls of this node that wait for a reply, by id
}

// listen starts to listen to facts and notices. If the log is loaded already, it
// returns when all facts that it has were heard.
func (h *Hub) listen() {
	c := &h.cluster
	c.settled = make(chan struct{})
	c.open = make(map[string]chan callReply)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	loaded := h.broker.Loaded() == nil
	c.goTask(h.runs.Run)
	h.broker.Listen(h.onNotice)
	if loaded {
		<-c.settled
	}
}

// hasSettled reports whether this node has heard all facts that the log had when it
// was opened.
func (c *cluster) hasSettled() bool {
	select {
	case <-c.settled:
		return true
	default:
		return false
	}
}

// onNotice handles a fact or a notice. They come one at a time, in order, so it must
// not wait.
func (h *Hub) onNotice(n broker.Notice) {
	now := time.Now()
	switch {
	case n.Reset:
		h.revocations.startOver()
		h.activity.onReset(h.broker.Node())
		h.members.onReset(h.broker.Node())
		h.presence.Reset()
		h.runs.Reset()
	case n.Settled:
		h.settleRevocations(now)
		h.runs.Settled()
		h.cluster.once.Do(func() { close(h.cluster.settled) })
	case n.Fact:
		if name, ok := strings.CutPrefix(n.About, revokedFact); ok {
			h.onRevocation(name, &n, now)
		} else if name, ok := strings.CutPrefix(n.About, ticketFact); ok {
			h.onTicket(name, &n, now)
		} else if name, ok := strings.CutPrefix(n.About, runs.FactPrefix); ok {
			h.runs.Hear(name, &n)
		}
	case n.About == aboutCall:
		h.onCall(n.Data)
	case n.About == aboutReply:
		h.cluster.onReply(n.Data)
	case n.About == aboutReaders:
		h.onActivity(&h.activity, n.Data)
	case n.About == aboutMembers:
		h.onActivity(&h.members, n.Data)
	case n.About == aboutPresence:
		h.presence.Hear(n.Data)
	}
}

// goTask runs f on a goroutine of the hub, unless the hub is being closed: then it is
// false. When it is closed, the context of f ends, and stop waits for f.
func (c *cluster) goTask(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.run.Go(func() { f(c.ctx) })
	}
	return !c.ended
}

// stop ends all tasks, and waits for them.
func (c *cluster) stop() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.cancel()
	c.run.Wait()
}
