package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// What nodes tell each other. A notice reaches the nodes that are running; a fact is
// known to all nodes, also to those that are started later, until it is removed or
// has expired. Both are entries of the log, so that all nodes get them in the same
// order. Neither belongs to a channel, and no reader gets them.

// Notice is what Listen is called with: a notice, a change of a fact, or one of the
// two marks Reset and Settled.
type Notice struct {
	// About is the name of the fact, or the subject of the notice.
	About string
	// Data is the content; nil if a fact was removed.
	Data []byte
	// Until is when a fact expires; zero is never.
	Until time.Time
	// ID is the version of a fact: the entry that set it. It is zero if it was removed.
	ID ID
	// Fact says that it is a fact, not a notice.
	Fact bool
	// Reset says that no fact that was told before is valid. Those that are valid
	// follow, and then Settled. Nothing else is set.
	Reset bool
	// Settled says that all facts that the log had were told. Nothing else is
	// set.
	Settled bool
}

// MaxFacts bounds the number of facts of a broker, MaxNotice the size of the data
// of a fact and of a notice.
const (
	MaxFacts  = 350_000
	MaxNotice = 64 << 10
)

// ErrTooManyFacts is the error of SetFact if there are MaxFacts others.
var ErrTooManyFacts = errors.New("too many facts")

// factPrefix begins the names that facts have in the log, where they are kept beside
// the values of channels.
const factPrefix = "_"

func isFact(name string) bool { return strings.HasPrefix(name, factPrefix) }

// fact is a fact as the log has it.
type fact struct {
	Until int64           `json:"until,omitempty"` // in milliseconds
	Data  json.RawMessage `json:"data"`

	id ID
}

func (f *fact) notice(name string) Notice {
	n := Notice{About: strings.TrimPrefix(name, factPrefix), Data: f.Data, Fact: true, ID: f.id}
	if f.Until != 0 {
		n.Until = time.UnixMilli(f.Until)
	}
	return n
}

// SetFact adds a fact or replaces it: data is JSON text. It expires at until, if that
// is not zero. The name must be one that a channel could have.
func (b *Broker) SetFact(ctx context.Context, name string, data []byte, until time.Time) error {
	value, err := b.factValue(name, data, until)
	if err != nil {
		return err
	}
	_, err = b.appendOne(ctx, Op{Kind: KindState, Channel: factPrefix + name, State: &StateOp{Value: value}})
	return err
}

// ChangeFact is SetFact if the version of the fact is was, or with the zero ID if there is
// no such fact; else the error is ErrStateMismatch. With nil data it removes the fact. It
// returns the new version. Of several nodes that change a fact at the same time, one does.
func (b *Broker) ChangeFact(ctx context.Context, name string, data []byte, until time.Time, was ID) (ID, error) {
	op := Op{Kind: KindState, Channel: factPrefix + name, State: &StateOp{If: Condition{Kind: IfAbsent}}}
	if !was.IsZero() {
		op.State.If = Condition{Kind: IfVersion, Versions: []ID{was}}
	}
	if data != nil {
		var err error
		if op.State.Value, err = b.factValue(name, data, until); err != nil {
			return ID{}, err
		}
	}
	return b.appendOne(ctx, op)
}

// factValue is the value that a fact has in the log.
func (b *Broker) factValue(name string, data []byte, until time.Time) ([]byte, error) {
	if err := channel.Check(name); err != nil {
		return nil, err
	}
	b.mu.Lock()
	full := len(b.facts) >= MaxFacts && b.facts[factPrefix+name] == nil
	b.mu.Unlock()
	if full {
		return nil, ErrTooManyFacts
	}
	f := fact{Data: data}
	if !until.IsZero() {
		f.Until = until.UnixMilli()
	}
	value, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if len(value) > MaxNotice {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrStateTooLarge, len(value), MaxNotice)
	}
	return value, nil
}

// RemoveFact removes a fact, and reports whether there was one.
func (b *Broker) RemoveFact(ctx context.Context, name string) (bool, error) {
	_, err := b.appendOne(ctx, Op{Kind: KindState, Channel: factPrefix + name, State: &StateOp{}})
	if errors.Is(err, ErrStateMismatch) {
		return false, nil
	}
	return err == nil, err
}

// Tell sends a notice to all nodes, including this one.
func (b *Broker) Tell(ctx context.Context, about string, data []byte) error {
	if len(data) > MaxNotice {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrEventTooLarge, len(data), MaxNotice)
	}
	_, err := b.appendOne(ctx, Op{Kind: KindNotice, Channel: about, Event: sse.Event{Data: data}})
	return err
}

// appendOne appends an entry that belongs to no channel, and returns its id.
func (b *Broker) appendOne(ctx context.Context, op Op) (ID, error) {
	if err := b.Loaded(); err != nil {
		return ID{}, err
	}
	ops := []Op{op}
	b.setPolicies(ops)
	ops[0].History = Policy{} // it is not kept as an event is
	results, err := b.log.Append(ctx, ops)
	if err != nil {
		return ID{}, err
	}
	return results[0].ID, results[0].Err
}

// applyFact applies a change of a fact, and tells the listener. Broker.mu is held.
func (b *Broker) applyFact(e *Entry) {
	if notice, changed := b.putFact(e); changed {
		b.notices.add(notice)
	}
}

// putFact applies a change of a fact, of which the listener has to be told if it reports
// true. Broker.mu is held.
func (b *Broker) putFact(e *Entry) (notice Notice, changed bool) {
	old := b.facts[e.Channel]
	if old != nil && !e.ID.After(old.id) {
		return Notice{}, false
	}
	if e.State.Value == nil {
		delete(b.facts, e.Channel)
		return Notice{About: strings.TrimPrefix(e.Channel, factPrefix), Fact: true}, old != nil
	}
	f := &fact{id: e.ID}
	if err := json.Unmarshal(e.State.Value, f); err != nil {
		b.skipped.Add(1) // of a version to come
		return Notice{}, false
	}
	b.facts[e.Channel] = f
	if len(b.facts) == 1 {
		b.kickExpiry() // while there are none it does not look for those that end
	}
	return f.notice(e.Channel), true
}

// sendFacts tells the listener all facts. That these are all is known when the log is
// loaded: if it is not yet, Ready sends Settled. Broker.mu is held.
func (b *Broker) sendFacts() {
	b.notices.add(Notice{Reset: true})
	for name, f := range b.facts {
		b.notices.add(f.notice(name))
	}
	if b.Loaded() == nil {
		b.notices.add(Notice{Settled: true})
	}
}

// endedFacts are removals of facts that have expired. Broker.mu is held.
func (b *Broker) endedFacts(now uint64) (ops []Op) {
	for name, f := range b.facts {
		if f.Until != 0 && uint64(f.Until) <= now && len(ops) < expiryStep {
			ops = append(ops, Op{Kind: KindState, Channel: name, State: &StateOp{If: Condition{Kind: IfVersion, Versions: []ID{f.id}}}})
		}
	}
	return ops
}

// Listen calls f with all facts, and then with what nodes tell each other, in order,
// from one goroutine of the broker that ends with it. Listen must be called at most
// once. f may call the broker, except Close.
func (b *Broker) Listen(f func(Notice)) {
	b.mu.Lock()
	b.notices.start()
	b.sendFacts()
	b.mu.Unlock()
	b.done.Go(func() {
		for {
			list, more := b.notices.next()
			for _, n := range list {
				f(n)
			}
			if !more {
				return
			}
			if b.notices.takeLost() {
				b.config.Load().Logger.Error("notices were lost: too many came at once", slog.Int("bound", maxNotices))
				b.mu.Lock()
				b.sendFacts()
				b.mu.Unlock()
			}
		}
	})
}

// maxNotices bounds the notices that wait, besides the facts.
const maxNotices = 1 << 16

// notices are those that wait for the listener.
type notices struct {
	mu     sync.Mutex // guards what follows
	ready  sync.Cond  // something was added, or it is closed
	list   []Notice
	heard  bool // there is a listener
	lost   bool // some were dropped, because too many waited
	closed bool
}

func newNotices() *notices {
	n := &notices{}
	n.ready.L = &n.mu
	return n
}

func (n *notices) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = true
}

func (n *notices) add(notice Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case !n.heard || n.closed:
	case notice.Reset:
		n.list = append(n.list[:0:0], keepNotices(n.list)...)
		n.list = append(n.list, notice)
	case len(n.list) >= maxNotices+MaxFacts:
		n.lost = true
	default:
		n.list = append(n.list, notice)
	}
	n.ready.Signal()
}

// keepNotices are those of list that are still of use before a Reset.
func keepNotices(list []Notice) (kept []Notice) {
	for _, n := range list {
		if !n.Fact && !n.Reset && !n.Settled {
			kept = append(kept, n)
		}
	}
	return kept
}

// next waits for notices; more is false when there will be no others.
func (n *notices) next() (list []Notice, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.list) == 0 && !n.closed && !n.lost {
		n.ready.Wait()
	}
	list, n.list = n.list, nil
	return list, !n.closed
}

// takeLost reports whether notices were lost since the last call.
func (n *notices) takeLost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	lost := n.lost
	n.lost = false
	return lost
}

func (n *notices) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.ready.Broadcast()
}
