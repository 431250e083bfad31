package broker

import "slices"

// voidFrom reports whether entries after id may be void: nobody knows of which channels they
// were. Broker.mu is held.
func (b *Broker) voidFrom(id ID) bool {
	return slices.ContainsFunc(b.void, func(s Span) bool { return !id.After(s.After) })
}

// passVoid moves on to the end of the newest span of void ids, if nothing has come after it
// yet: else who begins now would begin before it. Broker.mu is held.
func (b *Broker) passVoid() {
	for _, s := range b.void {
		if s.To.After(b.issued.last) {
			b.issued.add(s.To)
			b.head.Store(&s.To)
		}
	}
}
