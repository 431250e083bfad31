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

// What nodes tell each other. A notice is heard by the nodes that there are; a
// fact is known to all nodes, also to those that come later, until it is taken
// back or its time is over. Both have their place in the log, so that all nodes
// hear of them in one order; neither is a channel's, and no reader gets them.

// Notice is what Listen hears.
type Notice struct {
	// About is the name of the fact, or what the notice is about.
	About string
	// Data is what it says; nil takes a fact back.
	Data []byte
	// Until is when a fact ends; zero is never.
	Until time.Time
	// Fact tells a fact from a notice.
	Fact bool
	// Reset says that all facts of before are void: those that hold follow, and
	// then Settled. Nothing else is set then.
	Reset bool
	// Settled says that all facts were told that the log had. Nothing else is
	// set then.
	Settled bool
}

// MaxFacts bounds the facts of a broker, MaxNotice the data of one and of a
// notice.
const (
	MaxFacts  = 350_000
	MaxNotice = 64 << 10
)

// ErrTooManyFacts is the error of SetFact where MaxFacts are known.
var ErrTooManyFacts = errors.New("too many facts")

// factPrefix begins the names by which facts are kept, beside values.
const factPrefix = "_"

func isFact(name string) bool { return strings.HasPrefix(name, factPrefix) }

// fact is a fact as the log has it.
type fact struct {
	Until int64           `json:"until,omitempty"` // in milliseconds
	Data  json.RawMessage `json:"data"`

	id ID
}

func (f *fact) notice(name string) Notice {
	n := Notice{About: strings.TrimPrefix(name, factPrefix), Data: f.Data, Fact: true}
	if f.Until != 0 {
		n.Until = time.UnixMilli(f.Until)
	}
	return n
}

// SetFact makes a fact known: data is JSON text. It ends at until, if that is
// not zero. The name is like that of a channel.
func (b *Broker) SetFact(ctx context.Context, name string, data []byte, until time.Time) error {
	if err := channel.Check(name); err != nil {
		return err
	}
	b.mu.Lock()
	full := len(b.facts) >= MaxFacts && b.facts[factPrefix+name] == nil
	b.mu.Unlock()
	if full {
		return ErrTooManyFacts
	}
	f := fact{Data: data}
	if !until.IsZero() {
		f.Until = until.UnixMilli()
	}
	value, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if len(value) > MaxNotice {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrStateTooLarge, len(value), MaxNotice)
	}
	return b.appendOne(ctx, Op{Kind: KindState, Channel: factPrefix + name, State: &StateOp{Value: value}})
}

// RemoveFact takes a fact back, and reports whether there was one.
func (b *Broker) RemoveFact(ctx context.Context, name string) (bool, error) {
	err := b.appendOne(ctx, Op{Kind: KindState, Channel: factPrefix + name, State: &StateOp{}})
	if errors.Is(err, ErrStateMismatch) {
		return false, nil
	}
	return err == nil, err
}

// Tell sends a notice to all nodes, this one too.
func (b *Broker) Tell(ctx context.Context, about string, data []byte) error {
	if len(data) > MaxNotice {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrEventTooLarge, len(data), MaxNotice)
	}
	return b.appendOne(ctx, Op{Kind: KindNotice, Channel: about, Event: sse.Event{Data: data}})
}

func (b *Broker) appendOne(ctx context.Context, op Op) error {
	if err := b.Loaded(); err != nil {
		return err
	}
	ops := []Op{op}
	b.sortOut(ops)
	ops[0].History = Policy{} // it is not kept as an event is
	results, err := b.log.Append(ctx, ops)
	if err != nil {
		return err
	}
	return results[0].Err
}

// applyFact takes in what the log says of a fact. Broker.mu is held.
func (b *Broker) applyFact(e *Entry) {
	old := b.facts[e.Channel]
	if old != nil && !e.ID.After(old.id) {
		return
	}
	if e.State.Value == nil {
		delete(b.facts, e.Channel)
		if old != nil {
			b.notices.add(Notice{About: strings.TrimPrefix(e.Channel, factPrefix), Fact: true})
		}
		return
	}
	f := &fact{id: e.ID}
	if err := json.Unmarshal(e.State.Value, f); err != nil {
		b.skipped.Add(1) // of a version to come
		return
	}
	b.facts[e.Channel] = f
	b.notices.add(f.notice(e.Channel))
}

// giveFacts tells the listener all facts. Those that the log had when it was
// opened are all there when it is loaded: until then it is Ready that says so.
// Broker.mu is held.
func (b *Broker) giveFacts() {
	b.notices.add(Notice{Reset: true})
	for name, f := range b.facts {
		b.notices.add(f.notice(name))
	}
	if b.Loaded() == nil {
		b.notices.add(Notice{Settled: true})
	}
}

// endedFacts are removals of facts whose time is over. Broker.mu is held.
func (b *Broker) endedFacts(now uint64) (ops []Op) {
	for name, f := range b.facts {
		if f.Until != 0 && uint64(f.Until) <= now && len(ops) < expiryStep {
			ops = append(ops, Op{Kind: KindState, Channel: name, State: &StateOp{If: Condition{Kind: IfVersion, Versions: []ID{f.id}}}})
		}
	}
	return ops
}

// Listen has f called with what nodes tell each other, in order, from a
// goroutine of the broker: first with all facts. It is called once. f may call
// the broker; while it does not return, nothing more is told.
func (b *Broker) Listen(f func(Notice)) {
	b.mu.Lock()
	b.notices.open()
	b.giveFacts()
	b.mu.Unlock()
	b.done.Go(func() {
		for {
			list, more := b.notices.take()
			for _, n := range list {
				f(n)
			}
			if !more {
				return
			}
			if b.notices.lapsed() {
				b.config.Load().Logger.Error("notices were lost: too many came at once", slog.Int("bound", maxNotices))
				b.mu.Lock()
				b.giveFacts()
				b.mu.Unlock()
			}
		}
	})
}

// maxNotices bounds the notices that wait, beside the facts.
const maxNotices = 1 << 16

// notices are those that wait for the listener.
type notices struct {
	mu     sync.Mutex // guards what follows
	ready  sync.Cond  // something was added, or it is closed
	list   []Notice
	heard  bool // there is a listener
	lost   bool // some had no room
	closed bool
}

func newNotices() *notices {
	n := &notices{}
	n.ready.L = &n.mu
	return n
}

func (n *notices) open() {
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

// keepNotices are those of list that a Reset does not make void.
func keepNotices(list []Notice) (kept []Notice) {
	for _, n := range list {
		if !n.Fact && !n.Reset && !n.Settled {
			kept = append(kept, n)
		}
	}
	return kept
}

// take waits for notices; more is false when there will be none.
func (n *notices) take() (list []Notice, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.list) == 0 && !n.closed && !n.lost {
		n.ready.Wait()
	}
	list, n.list = n.list, nil
	return list, !n.closed
}

// lapsed reports whether notices were lost since it was asked last.
func (n *notices) lapsed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	lost := n.lost
	n.lost = false
	return lost
}

func (n *notices) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.ready.Broadcast()
}
