package broker

import "time"

// Lag is for how long the oldest event has waited that the subscription has still to
// read; 0 if there is none. Events that it will not deliver count, too.
func (s *Subscription) Lag() time.Duration {
	now := s.broker.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest, waits := ID{}, false
	for _, p := range s.positions {
		at := p.place
		var id ID
		if !p.feed.settle(p.chain, &at) {
			id = p.passed() // it has fallen off its history
		} else if e, ok := at.entry(); ok {
			id = e.id
		} else {
			continue
		}
		if !waits || oldest.After(id) {
			oldest, waits = id, true
		}
	}
	if !waits || oldest.Ms >= now {
		return 0
	}
	return time.Duration(now-oldest.Ms) * time.Millisecond
}
