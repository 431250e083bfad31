package broker

import (
	"bytes"
	"cmp"

	"github.com/evstream/caddy-evstream/sse"
)

// Batch is what one Read fetched. A zero Batch may be used, and used again.
type Batch struct {
	// Bytes are encoded events. They must not be modified, because often they are
	// the history itself. They are valid until the next Read.
	Bytes []byte
	// Events is how many there are.
	Events int
	// Last is the newest id among them that clients see; zero if there is none.
	Last ID
	// Changes are names that were joined or left, to be announced before Gap.
	Changes []Change
	// Gap, if not nil, is to be announced before Bytes.
	Gap *Gap
	// More says that there is more to read, without waiting.
	More bool
	// Closed are channels that are closed, and that the reader has read to their end
	// now. End says that all it reads is closed and read: nothing else comes. A batch
	// that has events has neither.
	Closed []Closed
	End    bool

	// Decode asks for Deliveries instead of Bytes.
	Decode     bool
	Deliveries []Delivery

	// Max bounds the size of Bytes, or the number of Deliveries. One event may
	// exceed it. 0 is 64 KiB, or 1000.
	Max int

	head  ID            // up to which a Read fetches
	whole *stateVersion // of the verdict whole

	own  []byte // backs Bytes when they are not the history itself
	done bool   // the next event is left for another Read
	seen int    // entries that were looked at
}

// maxSeen bounds how many entries one Read looks at. A reader may want few of them,
// and the goroutine that calls Read may have other readers to serve.
const maxSeen = 2000

// maxOwn bounds how much is copied from several histories, or from several parts of
// one. A larger batch would stay in memory with each reader that is stalled in a
// write.
const maxOwn = 16 << 10

func (b *Batch) reset() {
	b.Bytes, b.Events, b.Last, b.Gap, b.More, b.done = nil, 0, ID{}, nil, false, false
	b.Deliveries, b.Changes, b.Closed, b.End = nil, nil, nil, false
	b.own, b.seen, b.whole = b.own[:0], 0, nil
}

func (b *Batch) full() bool {
	switch {
	case b.seen >= maxSeen:
		return true
	case b.Decode:
		return len(b.Deliveries) >= cmp.Or(b.Max, 1000)
	case len(b.own) > 0:
		return b.done || len(b.own) >= min(b.size(), maxOwn)
	}
	return b.done || len(b.Bytes) >= b.size()
}

func (b *Batch) size() int { return cmp.Or(b.Max, 64<<10) }

// Read fetches what is new, in log order, and moves the cursor over it. It does not
// wait: if there is nothing new, batch is empty. It is empty, too, but with More, if
// many entries were looked at and none is for this reader. The error is ErrClosed
// when the subscription or the broker is closed, or that of SubscribeOptions.Looks where
// much has to be looked at to go on: then nothing was read, and Cursor is where to resume.
func (s *Subscription) Read(batch *Batch) error {
	batch.reset()
	s.broker.wave.remove(s)
	for {
		batch.More = false
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		if s.changes != nil {
			s.tellChanges(batch)
		}
		if s.values.pending() {
			s.mu.Unlock()
			if err := s.tellStates(batch); err != nil {
				return err
			}
		} else {
			fetched := s.fetch(batch)
			s.mu.Unlock()
			if !fetched {
				if err := s.relocate(); err != nil {
					return err
				}
				continue
			}
		}
		if batch.Events > 0 || batch.Gap != nil || len(batch.Changes) > 0 || !batch.More || batch.full() {
			break
		}
	}
	if batch.Events > 0 {
		s.broker.delivered.Add(uint64(batch.Events))
	}
	return nil
}

// settle settles all positions; false if one has fallen off.
func (s *Subscription) settle() bool {
	for _, p := range s.positions {
		if !p.settle() {
			return false
		}
	}
	return true
}

// fetch merges what the positions have up to the head; false if one has fallen
// off. Subscription.mu is held.
func (s *Subscription) fetch(batch *Batch) bool {
	// The head is loaded first: all up to it is in the histories, so that what is
	// merged up to it is complete. It is loaded with the lock held, because a log
	// that starts again moves the head back and then interrupts its readers.
	head := s.broker.Head()
	if !s.settle() {
		return false
	}
	batch.Gap, s.gap = s.gap, nil
	batch.head = head
	for !batch.full() {
		p, until := s.first(head)
		if p == nil {
			if head.After(s.cursor) {
				s.cursor = head
			}
			for _, p := range s.positions {
				p.caughtUp()
			}
			if s.closing {
				s.tellClosed(batch, head)
			}
			return true
		}
		s.advance(batch, p, until)
		if !p.settle() {
			break // the next Read locates it
		}
	}
	batch.More = true
	return true
}

// first is the position with the lowest entry up to head, and how far its
// entries may go before another position's are due; nil if there is none.
func (s *Subscription) first(head ID) (p *position, until ID) {
	var lowest ID
	until = head
	for _, q := range s.positions {
		e, ok := q.place.entry()
		if !ok || e.id.After(head) {
			continue
		}
		switch {
		case p == nil:
			p, lowest = q, e.id
		case lowest.After(e.id):
			p, until, lowest = q, lowest, e.id
		case until.After(e.id):
			until = e.id
		}
	}
	return p, until
}

// advance moves p over its entries up to until, or to the end of its segment, and
// adds to batch what the reader wants of them.
func (s *Subscription) advance(batch *Batch, p *position, until ID) {
	seg := p.place.seg
	stop := seg.n.Load()
	if seg.index[stop-1].id.After(until) {
		stop = seg.after(until, stop)
	}
	if s.form == nil && !seg.special.Load() && seg.index[p.place.i].id.After(s.cursor) && !batch.Decode {
		i := p.place.i
		stop = min(stop, seg.within(i, batch.size()))
		if !batch.add(seg.bytes(i, stop)) {
			return
		}
		batch.Events += int(stop - i)
		s.cursor = seg.index[stop-1].id
		batch.Last = s.cursor
		p.place.i = stop
		return
	}
	for ; p.place.i < stop && !batch.full(); p.place.i++ {
		e := &seg.index[p.place.i]
		batch.seen++
		v := s.judge(p, e, batch)
		if v != skip && !s.deliver(batch, p.place, e, v) {
			return
		}
		if e.id.After(s.cursor) {
			s.cursor = e.id
		}
	}
}

// deliver adds one event to batch in the form that the reader wants; false if there
// is no room for it.
func (s *Subscription) deliver(batch *Batch, at place, e *entry, v verdict) bool {
	block := at.seg.bytes(at.i, at.i+1)
	switch {
	case v == whole || batch.Decode && e.meta.state != nil:
		s.deliverState(batch, at, e, v)
	case batch.Decode:
		event := sse.Parse(block)
		if v == nameless {
			event.ID = ""
		}
		batch.Deliveries = append(batch.Deliveries, Delivery{e.id, e.meta.channel, event, nil, e.meta.filter})
	case s.form.encloses():
		event := sse.Parse(block)
		if v == late || v == nameless {
			event.ID = ""
		}
		s.form.enclose(&event, e.meta.channel)
		batch.start()
		batch.own = sse.AppendEvent(batch.own, &event)
		batch.Bytes = batch.own
	case v == late || v == nameless:
		batch.start()
		batch.own = sse.AppendWithoutID(batch.own, block)
		batch.Bytes = batch.own
	case !batch.add(block):
		return false
	}
	batch.Events++
	if v != late {
		batch.Last = e.id
	}
	return true
}

// add adds bytes of a history. The first are used as they are, those that follow are
// copied behind them; false if they are too many to be copied.
func (b *Batch) add(block []byte) bool {
	switch {
	case len(b.Bytes) == 0:
		b.Bytes = block
	case len(b.Bytes)+len(block) > maxOwn:
		b.done = true
		return false
	default:
		b.start()
		b.own = append(b.own, block...)
		b.Bytes = b.own
	}
	return true
}

// Keep returns p, a part of Bytes, so that it stays valid after the next Read: p
// itself if it is a part of the history, else a copy.
func (b *Batch) Keep(p []byte) []byte {
	if len(b.own) == 0 {
		return p
	}
	return bytes.Clone(p)
}

// start copies what is in the batch to memory of its own, to append to.
func (b *Batch) start() {
	if len(b.Bytes) > 0 && len(b.own) == 0 {
		b.own = append(b.own, b.Bytes...)
	}
}
