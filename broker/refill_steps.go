package broker

// filling is a refill of a pattern: it captures what the channels have, merges that into
// older, and puts older before what the pattern has. Broker.mu is held, but where a method
// says otherwise. In steps it is released in between. Then what the pattern gets is what its
// channels had when the refill began, since
//
//   - a channel is captured before it changes: see Broker.capture. Only what is too old by
//     then, or has no room by another configuration, is lost, and known to be;
//   - what is published meanwhile has ids above until, and goes into the pattern as always;
//   - what is prepended meanwhile (older.go) lies below since: nobody begins below the floor;
//   - what takes back a part of that, or moves where the pattern begins, makes it void.
type filling struct {
	b            *Broker
	p, older     *feed
	steps        bool
	number       uint64 // of a refill in steps: see feed.captured
	since, until ID
	from         ID // what older follows
	found        []stretch
	looked       int // names and events
	void         bool
}

func (b *Broker) newFilling(p *feed, since ID) *filling {
	r := &filling{b: b, p: p, since: since, older: newFeed(p.name, p.policy)}
	// It may reach less far back than its complete, for lack of room.
	r.until = latest(p.complete, p.begins)
	if p.size == 0 {
		r.until = b.issued.last
	}
	r.older.pattern = p.pattern
	r.older.policy.Bytes -= p.size
	r.older.trimmed = b.missingMatching(p.pattern)
	b.setOwner(r.older, p.owner)
	return r
}

// run refills the pattern, unless it becomes void.
func (r *filling) run() {
	r.capture()
	r.merge()
	b, p := r.b, r.p
	for !r.void && r.older.size > 0 && p.size+r.older.size > p.policy.Bytes {
		b.dropOldest(r.older)
	}
	b.discharge(r.older)
	b.setOwner(r.older, nil)
	if r.steps && p.begins.After(r.until) {
		r.void = true // the pattern has dropped entries above until meanwhile
	}
	if !r.void {
		r.finish()
	}
}

// runInSteps is run, while others have Broker.mu between the steps. No other refill runs in
// steps meanwhile.
func (r *filling) runInSteps() {
	b := r.b
	b.fillings++
	r.steps, r.number = true, b.fillings
	b.filling = r
	r.run()
	b.filling = nil
}

// aside ends a step, does what needs no lock, and reports whether another step is of use.
func (r *filling) aside(do func()) bool {
	switch {
	case !r.steps:
		do()
	case !r.void:
		r.b.pauseRefill(do)
		r.void = r.void || r.b.closed
	}
	return !r.void
}

func (r *filling) pause() bool { return r.aside(func() {}) }

// capture captures the channels.
func (r *filling) capture() {
	r.b.eachCandidate(r.p.pattern, r.b.steps.names, r.pause, func(f *feed) {
		r.looked++
		r.captureOne(f)
	})
}

// capture has a refill that goes on in steps capture a channel that is about to change.
func (b *Broker) capture(f *feed) {
	if b.filling != nil && f.pattern == nil && f.of == nil {
		b.filling.captureOne(f)
	}
}

// captureOne captures what a channel has, if it is one of the pattern's and was not
// captured yet. A name that was never published to has nothing.
func (r *filling) captureOne(f *feed) {
	if r.steps {
		if f.captured == r.number {
			return
		}
		f.captured = r.number
	}
	if f.table != inChannels || !r.p.pattern.Match(f.name) {
		return
	}
	f.expire(r.b.now())
	r.older.lose(f.trimmed)
	if newest := f.newest(); !newest.After(r.since) {
		r.older.lose(newest) // kept, but not here
		return
	}
	for at := f.kept.settle(); at.seg != nil; at = (place{seg: at.seg.next.Load()}) {
		if r.until.After(at.seg.before) {
			r.found = append(r.found, stretch{at.seg, at.i, at.seg.n.Load(), at.seg.before, at.seg.charge()})
		}
	}
}

// merge fills older.
func (r *filling) merge() {
	b, room := r.b, r.older.policy.Bytes
	var lost ID
	var entries byEntry
	r.aside(func() {
		r.from = latest(r.since, fitting(r.found, room))
		for i := range r.found {
			at := &r.found[i]
			if first := at.seg.after(r.from, at.n); first > at.i {
				lost = latest(lost, at.seg.index[first-1].id) // kept, but not here
				at.i = first
			}
			at.n = at.seg.after(r.until, at.n)
		}
		entries = newMerge(r.found)
	})
	r.older.beginAfter(r.from)
	r.older.lose(lost)
	for n, size := 0, 0; !r.void; {
		if n == b.steps.entries || size >= refillSize {
			r.pause()
			n, size = 0, 0
			continue
		}
		e, block, ok := entries.next()
		if !ok {
			return
		}
		r.looked++
		if !e.meta.live {
			b.append(r.older, e.id, e.meta, e.own, block)
		}
		n, size = n+1, size+len(block)
	}
}

// finish puts what was merged into the pattern.
func (r *filling) finish() {
	b, p, older := r.b, r.p, r.older
	now := b.now()
	p.complete, p.refilled = r.since, now
	if p.begins.After(r.until) {
		return // it has lost entries above until to make room: there would be a hole
	}
	if p.size == 0 { // its readers wait for an entry, and have to find the first one
		b.empty(p)
	}
	if !p.trimmed.After(r.until) {
		p.trimmed = older.trimmed
		if p.trimmed.After(r.until) {
			p.trimmed = r.until // p has what channels have lost above
		}
	}
	p.begins = r.until
	if older.size > 0 {
		p.begins = latest(r.from, older.begins)
		p.prepend(&older.history)
	}
	b.charge(p)
	p.expire(now)
}
