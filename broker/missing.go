package broker

import "github.com/evstream/caddy-evstream/channel"

// missingIDs are the entries that the log did not have any more when this node
// read it. A shared log keeps entries by their policies, so that of each policy
// it is known up to which id entries may be missing.
type missingIDs struct {
	by    map[Policy]ID
	most  ID // the newest of by
	mixed ID // up to it, entries of one channel may have had different policies
}

// add takes in what the log says is missing. rules is the digest of those of today.
func (m *missingIDs) add(o Origin, rules uint64) {
	for policy, id := range o.Lost {
		if m.by == nil {
			m.by = map[Policy]ID{}
		}
		m.by[policy] = latest(m.by[policy], id)
		m.most = latest(m.most, id)
	}
	m.mixed = latest(m.mixed, o.Mixed)
	if o.Rules != 0 && o.Rules != rules {
		m.mixed = latest(m.mixed, o.Issued) // they changed while the log was closed
	}
}

// of is the newest id that may be missing from a channel that has policy now.
func (m *missingIDs) of(policy Policy) ID {
	if m.most.IsZero() {
		return ID{}
	}
	if policy.Events == 0 {
		policy = Policy{}
	}
	// Entries that it had under another policy are not above mixed.
	before := m.most
	if before.After(m.mixed) {
		before = m.mixed
	}
	return latest(m.by[policy], before)
}

// missingOf is the newest id that may be missing from a channel, or a name
// beneath, that is not in memory. Broker.mu is held.
func (b *Broker) missingOf(name string) ID {
	id := b.lossMarks.of(name)
	if b.missing.most.IsZero() {
		return id
	}
	return latest(id, b.missing.of(b.policyOf(name)))
}

// missingMatching is the newest id that may be missing from the channels that p
// selects. Broker.mu is held.
func (b *Broker) missingMatching(p *channel.Pattern) ID {
	id := b.lossMarks.matching(p)
	if b.missing.most.IsZero() {
		return id
	}
	for i := range b.rules {
		if rule := &b.rules[i]; rule.pattern.Overlaps(*p) {
			id = latest(id, b.missing.of(rule.policy))
			if rule.pattern.Contains(*p) {
				return id
			}
		}
	}
	return latest(id, b.missing.of(b.cfg.History))
}
