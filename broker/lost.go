package broker

import "github.com/evstream/caddy-evstream/channel"

// lostIDs is what a log that is shared did not have any more when this node
// read it, by the policies that entries are kept by.
type lostIDs struct {
	by    map[Policy]ID
	most  ID // the newest of by
	mixed ID // before it, entries of one channel may have been kept by different policies
}

// take adds what a log says.
func (l *lostIDs) take(o Origin) {
	for policy, id := range o.Lost {
		if l.by == nil {
			l.by = map[Policy]ID{}
		}
		l.by[policy] = latest(l.by[policy], id)
		l.most = latest(l.most, id)
	}
	l.mixed = latest(l.mixed, o.Mixed)
}

// of is the newest id that may be missing of a channel that has policy now.
func (l *lostIDs) of(policy Policy) ID {
	if l.most.IsZero() {
		return ID{}
	}
	if policy.Events == 0 {
		policy = Policy{}
	}
	// What it had under another policy is older than mixed.
	before := l.most
	if before.After(l.mixed) {
		before = l.mixed
	}
	return latest(l.by[policy], before)
}

// lostOf is the newest id that may be missing of a channel, or a name beneath,
// that is not in memory. Broker.mu is held.
func (b *Broker) lostOf(name string) ID {
	id := b.floors.of(name)
	if b.lost.most.IsZero() {
		return id
	}
	return latest(id, b.lost.of(b.policyOf(name)))
}

// lostBeneath is that of the channels that a pattern takes in. Broker.mu is
// held.
func (b *Broker) lostBeneath(p *channel.Pattern) ID {
	id := b.floors.beneath(p)
	if b.lost.most.IsZero() {
		return id
	}
	for i := range b.rules {
		if rule := &b.rules[i]; rule.pattern.Overlaps(*p) {
			id = latest(id, b.lost.of(rule.policy))
			if rule.pattern.Contains(*p) {
				return id
			}
		}
	}
	return latest(id, b.lost.of(b.cfg.History))
}
