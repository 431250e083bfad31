package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// Publish checks ops and appends them to the log, with no other entry between them.
// If one is not valid, the error is an *OpError and nothing is stored; for the other
// errors see Log.Append. An operation that the log refuses has an Err in its Result.
//
// Where operations have stages, one that is not valid has only those of its stage and of
// later ones left, with ErrNotReached: published again, without those before, it has its
// own error.
//
// The broker takes ownership of what the operations point to.
func (b *Broker) Publish(ctx context.Context, ops []Op) ([]Result, error) {
	results, err := b.publish(ctx, ops)
	asked := ops
	if _, refused := errors.AsType[*OpError](err); refused && isStaged(ops) {
		asked = ops[:endOfStage(ops)]
	}
	b.publishes.count(asked, results, err)
	return results, err
}

func (b *Broker) publish(ctx context.Context, ops []Op) ([]Result, error) {
	if err := b.Loaded(); err != nil {
		return nil, err
	}
	all := len(ops)
	if isStaged(ops) && b.full.Load() {
		ops = ops[:endOfStage(ops)] // whether there is room for the next depends on these
	}
	stateful, closing := false, false
	for i := range ops {
		if err := b.check(&ops[i]); err != nil {
			n, err := beforeRefused(ops, &OpError{Index: i, Err: err})
			if err != nil {
				return nil, err
			}
			ops = ops[:n]
			break
		}
		stateful = stateful || ops[i].Kind == KindState
		closing = closing || ops[i].Kind == KindClose
	}
	if b.full.Load() {
		if err := b.noRoom(ops); err != nil {
			n, err := beforeRefused(ops, err)
			if err != nil {
				return nil, err
			}
			ops = ops[:n]
		}
	}
	owned := hasOwned(ops)
	if owned {
		if err := b.reserve(ops); err != nil {
			n, err := beforeRefused(ops, err)
			if err == nil {
				ops = ops[:n]
				err = b.reserve(ops)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	b.setPolicies(ops)
	if closing {
		b.setClosing(ops)
	}
	results, err := b.appended(ctx, ops)
	if owned {
		b.settle(ops, results)
	}
	if stateful && err == nil {
		b.publishedStates(ops, results)
		b.observeStates(ops, results)
	}
	if err == nil {
		results = notReached(results, all)
	}
	return results, err
}

// publishOne publishes one operation; its error is no *OpError.
func (b *Broker) publishOne(ctx context.Context, op Op) (Result, error) {
	results, err := b.Publish(ctx, []Op{op})
	if err != nil {
		if op, ok := errors.AsType[*OpError](err); ok {
			err = op.Err
		}
		return Result{}, err
	}
	return results[0], nil
}

// setPolicies sets in ops how they are to be kept, for a log that keeps entries by it.
func (b *Broker) setPolicies(ops []Op) {
	if !b.byPolicy {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range ops {
		op := &ops[i]
		if op.Rules = b.digest; op.Kind != KindState {
			op.History = b.policyOf(op.Channel)
		}
	}
}

func (b *Broker) check(op *Op) error {
	switch op.Kind {
	case KindPurge:
		return channel.Check(op.Channel)
	case KindState:
		return b.checkState(op)
	case KindClose:
		if op.Close == nil {
			op.Close = &CloseOp{}
		}
		if err := channel.Check(op.Channel); err != nil || !op.Close.Event {
			return err
		}
	}
	if err := channel.CheckTarget(op.Channel); err != nil {
		return err
	}
	if err := b.CheckSize(&op.Event); err != nil {
		return err
	}
	if err := op.Filter.check(); err != nil {
		return err
	}
	return CheckEvent(&op.Event)
}

// CheckSize reports why an event must not be published because of its size. Publish
// checks it, too; it is for callers who look into the data before.
func (b *Broker) CheckSize(e *sse.Event) error {
	if limit := b.config.Load().MaxEvent; len(e.Data) > limit {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrEventTooLarge, len(e.Data), limit)
	}
	return nil
}

// CheckEvent reports why an event must not be published: a field is not valid, or
// its type or id is reserved.
func CheckEvent(e *sse.Event) error {
	switch {
	case strings.HasPrefix(e.Type, "evstream."):
		return ErrReservedType
	case isReserved(e.ID):
		return ErrReservedID
	}
	return e.Validate()
}

// UsableID reports whether CheckEvent takes id as the publisher's. What passes events of
// others on drops an id that it does not: clients would send it back as the hub's own,
// or not as it is.
func UsableID(id string) bool {
	return !isReserved(id) && (&sse.Event{ID: id}).Validate() == nil
}

// isReserved reports whether an id is the hub's own: a position, or a word such as
// evstream.end. Only these exact bytes are ever taken for one.
func isReserved(id string) bool { return LooksLikeID(id) || strings.HasPrefix(id, "evstream.") }

// noRoom is the error of the first operation whose channel cannot be added.
func (b *Broker) noRoom(ops []Op) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range ops {
		if !ops[i].HasEvent() {
			continue
		}
		f := b.feeds[ops[i].Channel]
		if f != nil && f.table == inChannels {
			continue
		}
		err := b.mayAdd(ops[i].Owner)
		if f != nil && errors.Is(err, ErrTooManyChannels) {
			continue // it is read: see publishedTo
		}
		if err != nil {
			return &OpError{Index: i, Err: err}
		}
	}
	return nil
}

// apply appends entries to the histories of their channels, and wakes the readers.
// The log calls it, in the order of its entries.
func (b *Broker) apply(entries []Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Version > EntryVersion:
			b.skipped.Add(1)
		case e.Kind == KindEvent:
			b.applyEvent(e)
		case e.Kind == KindPurge:
			b.applyPurge(e)
		case e.Kind == KindClose && e.Close != nil:
			b.applyClose(e)
		case e.Kind == KindNotice:
			b.notices.add(Notice{About: e.Channel, Data: e.Event.Data})
		case e.Kind == KindState && e.State != nil && isFact(e.Channel):
			b.applyFact(e)
		case e.Kind == KindState && e.State != nil:
			b.stateWrites.Add(1)
			b.applyState(e)
		default:
			b.skipped.Add(1)
		}
		b.issued.add(e.ID)
	}
	head := entries[len(entries)-1].ID
	b.head.Store(&head)
	b.wake()
}

func (b *Broker) applyEvent(e *Entry) {
	b.published.Add(1)
	b.reopenFor(e)
	f := b.feeds[e.Channel]
	if f != nil {
		b.capture(f)
	}
	switch {
	case f == nil:
		f = b.addChannel(e.Channel, e.Owner)
	case f.table == inNames:
		b.publishedTo(f, e.Owner)
	}
	m := b.metaOf(f, e)
	var own bool
	b.scratch, own = appendEvent(b.scratch[:0], e)

	switch {
	case f == nil: // there is no room for the channel: later readers get a gap
		b.lossMarks.raise(e.Channel, e.ID)
		b.sealName(e.Channel)
		b.missed(e.Channel)
	case m.live && len(f.readers) == 0:
		f.lose(e.ID)
		f.sealed = true
		b.markUsed(f)
	default:
		b.append(f, e.ID, m, own, b.scratch)
		b.touch(f)
		b.markUsed(f)
	}
	b.eachPattern(e.Channel, func(p *feed) {
		b.append(p, e.ID, m, own, b.scratch)
		b.touch(p)
	})
}

// appendEvent adds the encoded event of an entry to b. own says that its id line is the
// publisher's.
func appendEvent(b []byte, e *Entry) (block []byte, own bool) {
	event := e.Event // a copy: all nodes and followers share the entry
	if event.ID != "" && !UsableID(event.ID) {
		event.ID = "" // an earlier version took more
	}
	if own = event.ID != ""; !own {
		b = append(b, "id: "...)
		b = e.ID.AppendTo(b)
		b = append(b, '\n')
	}
	return sse.AppendEvent(b, &event), own
}

// missed announces a gap to the readers that a name beneath reaches, because there
// was no room for an event on it.
func (b *Broker) missed(name string) {
	if !channel.IsBeneath(name) {
		return // a channel that is read is there
	}
	b.eachReached(name, func(s *Subscription) {
		s.mu.Lock()
		if s.gap == nil {
			b.announceGap(s)
		}
		s.mu.Unlock()
		s.signal()
	})
}

// metaOf is the meta of an event; f is the feed of its channel, nil if there was no
// room for one.
func (b *Broker) metaOf(f *feed, e *Entry) *meta {
	if f != nil && e.Except == "" && e.Filter == nil {
		return f.meta
	}
	m := &meta{except: strings.Clone(e.Except), filter: e.Filter.clone(), live: b.policyOf(e.Channel).Events == 0}
	if f != nil {
		m.channel = f.name
	} else {
		m.channel = strings.Clone(e.Channel) // it may be a part of a request
	}
	return m
}

// applyPurge opens a channel and empties it, and the patterns that have an event of it: they may
// have it longer than the channel.
func (b *Broker) applyPurge(e *Entry) {
	if c := b.closedNow.byName[e.Channel]; c != nil && e.ID.After(c.id) {
		b.reopen(c.name)
	}
	if f := b.feeds[e.Channel]; f != nil {
		b.empty(f)
		f.sealed = true
	} else {
		b.sealName(e.Channel)
	}
	b.eachPattern(e.Channel, func(p *feed) {
		b.voidFilling(p) // it may have what is removed
		if p.holds(e.Channel) {
			b.empty(p)
			p.complete = latest(p.complete, p.newest()) // who has read all has no need of a refill
		}
	})
}
