package broker

import "time"

// What the model looks into patterns for: that they hold what they say, and that their
// readers stay where they are.

// patternLook is how a pattern was when the model last looked.
type patternLook struct {
	feed     *feed
	chain    *chain
	complete ID
	refilled uint64
	segments map[*segment]bool
	end      uint64
	doubt    ID  // up to it, what its channels have lost since counts as lost, though it may have it
	life     int // how often it may have got again what it had lost
}

// patternsHold checks that each pattern has what its channels keep above its complete,
// unless it had to make room, and that a reader that has lost nothing has a place.
func (m *model) patternsHold() {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for name, p := range m.b.patterns {
		m.look(name, p)
		m.holds(name, p)
		for _, r := range p.readers {
			at := *r
			if m.ample && at.chain == p.chain.Load() && !at.settle() && !p.trimmed.After(at.passed()) {
				m.t.Errorf("%s at %s has no place in %s, which has lost nothing above %s", r.sub.id, at.passed(), name, p.trimmed)
			}
		}
	}
}

// look looks at a pattern, and counts what happened to it. Broker.mu is held.
func (m *model) look(name string, p *feed) patternLook {
	was := m.looked[name]
	is := patternLook{p, p.chain.Load(), p.complete, p.refilled, map[*segment]bool{}, p.end().seq(), was.doubt, was.life}
	for seg := p.oldest; seg != nil; seg = seg.next.Load() {
		is.segments[seg] = true
	}
	prepended := p.oldest.first < was.end && !was.segments[p.oldest] // it may have dropped more than it had got
	switch {
	case is.feed != was.feed || is.refilled != was.refilled || prepended:
		m.met.refilled += min(int(p.refilled), 1)
		is.doubt, is.life = p.trimmed, is.life+1
	case is.chain != was.chain:
		is.life++
	case is.complete.After(was.complete):
		m.met.released++
		if p.complete.Ms+uint64(liveTail/time.Millisecond) > m.b.now() {
			m.t.Errorf("%s has let go of %s too early", name, p.complete)
		}
	}
	m.looked[name] = is
	return is
}

// holds checks what a pattern has.
func (m *model) holds(name string, p *feed) {
	here, first, last := map[ID]bool{}, p.trimmed, ID{}
	for e := range p.all() {
		if !e.id.After(last) {
			m.t.Errorf("%s has %s after %s", name, e.id, last)
		}
		if last.IsZero() {
			first = earlier(first, e.id) // from there on it has no hole
		}
		here[e.id], last = true, e.id
	}
	if n := p.count(); n != len(here) {
		m.t.Errorf("%s has %d entries, and says %d", name, len(here), n)
	}
	from := p.complete
	if !m.ample {
		from = latest(from, first)
	}
	for _, f := range m.b.feeds {
		if !naiveMatch(name, f.name) {
			continue
		}
		for e := range f.all() {
			if e.id.After(from) && !m.live[e.id] && !here[e.id] {
				m.t.Errorf("%s is complete from %s on, and does not have %s of %s", name, from, e.id, f.name)
			}
		}
	}
}
