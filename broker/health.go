package broker

// Health says what a broker cannot do at the moment, and why. All is well when all
// fields are nil.
type Health struct {
	// Reach is why this node does not read what the log gets: it is out of reach.
	Reach error
	// Loading is why not all is read that the log has kept.
	Loading error
	// Room is why nothing more can be stored.
	Room error
	// Failed is why the log does nothing any more until it is opened anew.
	Failed error
}

// HealthReporter is implemented by a Log that knows of its health what it does not tell
// its follower. Health is called often: it must not wait for the disk or the network. A
// field that is nil says nothing against what the broker itself knows.
//
// A Log that lets its broker serve before all entries are applied says so with Loading.
type HealthReporter interface{ Health() Health }

// Health reports how the broker and its log are.
func (b *Broker) Health() Health {
	var h Health
	if r, ok := b.log.(HealthReporter); ok {
		h = r.Health()
	}
	s := b.standing.Load()
	switch {
	case s.ended:
		h.Failed = s.cut
	case !s.loaded && h.Loading == nil:
		h.Loading = b.Loaded()
	}
	if s.loaded && !s.ended && s.cut != nil && h.Reach == nil {
		h.Reach = s.cut
	}
	return h
}
