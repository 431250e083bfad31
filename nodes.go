package evstream

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// What the nodes that share a log say to each other. Facts are what all of them
// know: who is revoked, which tickets are in use. A call is to the node of one
// session, which does something with it and answers: both are notices, which all
// nodes hear. Whoever can write to the log can say anything here, as it can
// publish anything; and whoever can read it hears all, so there is never a
// credential in what is said.
//
// A hub whose log nobody shares talks to itself, in the same way.

// What notices are about.
const (
	aboutCall   = "call"
	aboutAnswer = "answer"
)

// errBehind is the error of who cannot be judged before this node knows what
// others do.
var errBehind = fmt.Errorf("%w: what the others know is not known here", broker.ErrUnavailable)

// others is what a hub has for what it says to other nodes, and hears.
type others struct {
	settled chan struct{} // closed when it is known what the log knew at first
	once    sync.Once     // closes it

	ctx  context.Context // of errands: it ends with the hub
	stop context.CancelFunc
	run  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	ended   bool
	obeying int                    // calls of other nodes
	open    map[string]chan answer // by the call's id
}

// listen begins to hear what nodes say. It returns when what is known already
// was heard, if anything is.
func (h *hub) listen() {
	o := &h.others
	o.settled = make(chan struct{})
	o.open = make(map[string]chan answer)
	o.ctx, o.stop = context.WithCancel(context.Background())
	loaded := h.broker.Loaded() == nil
	h.broker.Listen(h.hear)
	if loaded {
		<-o.settled
	}
}

// hasSettled reports whether this node has heard what the log knew when it was
// opened.
func (h *hub) hasSettled() bool {
	select {
	case <-h.others.settled:
		return true
	default:
		return false
	}
}

// hear takes in one notice. It waits for nothing: they come in order.
func (h *hub) hear(n broker.Notice) {
	now := time.Now()
	switch {
	case n.Reset:
		h.revocations.begin()
	case n.Settled:
		h.settleRevocations(now)
		h.others.once.Do(func() { close(h.others.settled) })
	case n.Fact:
		if name, ok := strings.CutPrefix(n.About, revokedFact); ok {
			h.heardRevocation(name, &n, now)
		} else if name, ok := strings.CutPrefix(n.About, ticketFact); ok {
			h.heardTicket(name, &n, now)
		}
	case n.About == aboutCall:
		h.heardCall(n.Data)
	case n.About == aboutAnswer:
		h.others.heardAnswer(n.Data)
	}
}

// errand runs f on a goroutine of the hub, unless that is being closed. The
// context of f ends when it is.
func (o *others) errand(f func(context.Context)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.run.Go(func() { f(o.ctx) })
	}
}

// end ends all errands, and waits for them.
func (o *others) end() {
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	o.stop()
	o.run.Wait()
}
