package broker

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// Subscription reads channels. It is a cursor into the log and a place in the
// history of each channel; it has no queue of its own.
//
// Read must be called by one goroutine at a time; the other methods are safe for
// concurrent use.
type Subscription struct {
	broker   *Broker
	id       string
	owner    Owner
	audience Audience
	looks    Looks
	form     *form // nil for events as the histories have them
	waker    Waker
	start    ID
	began    *beginning // nil if there is nothing to say of it

	names []string // guarded by Broker.mu

	wave atomic.Uint32 // the number of the wave that woke it, until it reads; else 0

	mu sync.Mutex // guards what follows
	// With Broker.mu held positions may be read, too: they are set with both.
	positions []*position
	cursor    ID // all up to it was delivered, or is not for this reader
	gap       *Gap
	changes   *unheard // nil if there are none
	values    *values  // nil if there is nothing to tell, and nothing that it lacks
	closed    bool
	closing   bool // one of its channels may be closed
}

// beginning is what there is to say of how a subscription began. Most have none.
type beginning struct {
	replay *Replay
	valued []string // the names that had a value
}

// position is a subscription's place in one history.
type position struct {
	sub   *Subscription
	feed  *feed
	index int // in feed.readers; guarded by Broker.mu

	// Guarded by Subscription.mu once the subscription has it.
	chain *chain
	place place
	// from is a lower bound of the id that the position has passed, for when the
	// history has no entry before the place.
	from ID
	// liveFrom is the newest id when the position began: entries that a channel
	// does not keep are delivered only above it.
	liveFrom ID
	joined   *joined // nil for what the subscription began with, and what it has caught up with
	closed   *ending // nil while the channel is open
}

// joined is what a position has to do that joined a subscription which had read others.
type joined struct {
	// backlog is the subscription's cursor when it joined, until all up to it is
	// read: entries up to it are delivered late, without an id.
	backlog ID
	// lacks is the newest id when it joined, if the history did not reach back to
	// the subscription's cursor. Entries that are missing up to it come from
	// other names of the subscription, as long as it reads these.
	lacks ID
}

// ending is how the channel of a position was closed.
type ending struct {
	id   ID   // the entry that closed it
	told bool // the reader was told so
}

// backlog is that of joined, zero if there is none.
func (p *position) backlog() ID {
	if p.joined == nil {
		return ID{}
	}
	return p.joined.backlog
}

// caughtUp says that all of the backlog is read.
func (p *position) caughtUp() {
	switch j := p.joined; {
	case j == nil:
	case j.lacks.IsZero():
		p.joined = nil
	default:
		j.backlog = ID{}
	}
}

// passed is the newest id that the position has passed.
func (p *position) passed() ID {
	if before := p.place.seg.idBefore(p.place.i); before.After(p.from) {
		return before
	}
	return p.from
}

// settle moves p to the next entry that there is, or will be. It is false when
// p has fallen off its history and must be located again.
func (p *position) settle() bool { return p.feed.settle(p.chain, &p.place) }

// Wake is a chan that receives when there may be something to read: new events, a
// gap, or the end of the subscription or the broker. It is nil if there is a Waker.
func (s *Subscription) Wake() <-chan struct{} {
	c, _ := s.waker.(wakeChan)
	return c
}

func (s *Subscription) signal() { s.waker.Wake(false) }

// wakeChan is the Waker of subscriptions without one.
type wakeChan chan struct{}

// Wake implements Waker.
func (c wakeChan) Wake(bool) bool {
	select {
	case c <- struct{}{}:
	default:
	}
	return true
}

// ID is the name of the session, from SubscribeOptions.
func (s *Subscription) ID() string { return s.id }

// Start is the position that the subscription began at. A client that got nothing
// resumes from it without loss.
func (s *Subscription) Start() ID { return s.start }

// Replay says what the subscription got of the history that it asked for; nil if it
// began now or with a cursor.
func (s *Subscription) Replay() *Replay {
	if s.began == nil {
		return nil
	}
	return s.began.replay
}

// Valued are those of the subscription's names that had a value when it began. What its
// patterns select is not among them.
func (s *Subscription) Valued() []string {
	if s.began == nil {
		return nil
	}
	return s.began.valued
}

// Strange reports whether the subscription began with a cursor that is not of this
// log, and has not read the gap yet that says so. Until it has, Start must not be
// used to resume from, because a client that did would not hear of the gap.
func (s *Subscription) Strange() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gap != nil && s.gap.Reason != ReasonTrimmed
}

// Gap is the gap that the next Read announces; nil if there is none.
func (s *Subscription) Gap() *Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gap
}

// Cursor is the position up to which everything was read.
func (s *Subscription) Cursor() ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}

// relocate finds new places for the positions that have fallen off their history, and
// announces a gap if events were lost to them. The error is that of Looks.May, if a pattern
// has to be refilled for it: then nothing has changed.
func (s *Subscription) relocate() error {
	b := s.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	a := ahead{looks: s.looks}
	defer a.end(b)
	if err := b.refillFallen(&a, s); err != nil {
		return err
	}
	b.looked = 0
	defer func() { a.looked += b.looked }()
	s.mu.Lock()
	defer s.mu.Unlock()
	lost, behind := false, false
	for _, p := range s.positions {
		if p.settle() {
			continue
		}
		if p.feed.of != nil {
			behind = true
			continue
		}
		refill := s.needsRefill(p)
		p.from = s.resumes(p)
		if refill {
			b.refill(p.feed, p.from)
			b.wake()
		}
		p.chain, p.place = p.feed.chain.Load(), p.feed.after(p.from)
		lost = lost || p.feed.trimmed.After(p.from)
	}
	switch {
	case lost && s.gap == nil: // a gap that is pending tells the reader, too
		b.announceGap(s)
	case behind:
		b.catchUp(s, s.names)
	}
	return nil
}

// resumes is the id after which a position goes on that has fallen off its history.
func (s *Subscription) resumes(p *position) ID {
	if from := p.passed(); !p.backlog().IsZero() || !s.cursor.After(from) {
		return from
	}
	return s.cursor // it does not deliver what lies below
}

// needsRefill reports whether a position that has fallen off reads a pattern that does not
// reach back to where it goes on.
func (s *Subscription) needsRefill(p *position) bool {
	return p.feed.pattern != nil && p.feed.complete.After(s.resumes(p))
}

// wantsType reports whether the reader wants the type of the entry at a place.
func (s *Subscription) wantsType(at place) bool {
	return !s.form.choosy() || s.form.wants(string(typeOf(at.seg.bytes(at.i, at.i+1))))
}

// typeOf is the type of an encoded event.
func typeOf(block []byte) []byte {
	if bytes.HasPrefix(block, []byte("id: ")) {
		block = block[bytes.IndexByte(block, '\n')+1:]
	}
	name, found := bytes.CutPrefix(block, []byte("event: "))
	if !found {
		return nil
	}
	return name[:bytes.IndexByte(name, '\n')]
}

// verdict says how a subscription gets an entry.
type verdict uint8

const (
	skip     verdict = iota // not for this reader, or delivered already
	deliver                 // as it is
	late                    // without its id, because the cursor is above it
	whole                   // as the whole value, instead of the patch to it
	nameless                // without its id, which is not the publisher's
)

// judge decides about the entry at the place of p.
func (s *Subscription) judge(p *position, e *entry, batch *Batch) verdict {
	v := deliver
	if !e.id.After(s.cursor) {
		if e.id.After(p.backlog()) || s.delivered(p, e) {
			return skip // it came from another history
		}
		v = late
	}
	switch {
	case s.excepted(e),
		e.meta.live && !e.id.After(p.liveFrom) && !s.owes(p, e),
		!s.wantsType(p.place):
		return skip
	}
	if e.meta.state != nil {
		return s.judgeState(e, batch)
	}
	if s.form.onlyOwnIDs() && !e.own && v == deliver {
		return nameless
	}
	return v
}

// excepted reports whether e was published to others than s.
func (s *Subscription) excepted(e *entry) bool {
	return e.meta.except != "" && e.meta.except == s.id || e.meta.filter != nil && !s.passes(e.meta.filter)
}

// owes reports whether another position than p still has to deliver e, which its
// channel does not keep. Then p must not skip it: the cursor would move over it.
func (s *Subscription) owes(p *position, e *entry) bool {
	return e.id.After(s.cursor) && slices.ContainsFunc(s.positions, func(q *position) bool {
		return q != p && e.id.After(q.liveFrom) && q.feed.of == nil && q.feed.selects(e.meta.channel)
	})
}

// delivered reports whether an earlier position than p has e, too, which is in the
// backlog of p. Of names that select the same channels none has a backlog (see
// joinHere), so that e can only be an event that was published beneath a name.
func (s *Subscription) delivered(p *position, e *entry) bool {
	name := e.meta.channel
	if !channel.IsBeneath(name) {
		return false
	}
	for _, q := range s.positions {
		if q == p {
			break
		}
		if q.feed.selects(name) {
			return true
		}
	}
	return false
}

// Delivery is a decoded event, for readers that do not want the wire format.
type Delivery struct {
	ID      ID
	Channel string
	Event   sse.Event
	// State, if not nil, is the value that the channel got. Then Event is the
	// frame that tells the whole value, whatever the channel's format is.
	State *State
	// Filter says who else gets the event; nil is everybody. It must not be modified.
	Filter *Filter
}
