package broker

import (
	"context"
	"slices"
	"strings"
)

// What a broker is whose log other nodes share.

// Node is the name of this node; "" where the log is not shared.
func (b *Broker) Node() string { return b.node }

// Members are the names of the nodes that share the log, this one too; false
// where that is not known for sure at the moment, or the log is not shared.
func (b *Broker) Members() ([]string, bool) {
	if b.cluster == nil {
		return nil, false
	}
	return b.cluster.Members()
}

// SessionName makes the name of a session of this node from a random one, so
// that other nodes know whose it is.
func (b *Broker) SessionName(random string) string {
	if b.node == "" {
		return random
	}
	return b.node + "." + random
}

// NodeOf is the node that a session is of; "" where sessions have none.
func NodeOf(session string) string {
	node, _, found := strings.Cut(session, ".")
	if !found {
		return ""
	}
	return node
}

// IsForeign reports whether a session is another node's.
func (b *Broker) IsForeign(session string) bool {
	return b.cluster != nil && NodeOf(session) != b.node
}

// mayBind reports why a value cannot be bound to a session.
func (b *Broker) mayBind(session string) error {
	if !b.IsForeign(session) {
		if b.isOpen(session) {
			return nil
		}
		return ErrNoSession
	}
	// That the session is open there its node knows, and looks after.
	if members, known := b.Members(); known && !slices.Contains(members, NodeOf(session)) {
		return ErrNoSession
	}
	return nil
}

// Readers adds up how many subscribers the channels of other nodes have that
// are named so. They are as of a few seconds ago.
func (b *Broker) Readers(ctx context.Context, names []string) ([]int, error) {
	if b.cluster == nil {
		return make([]int, len(names)), nil
	}
	return b.cluster.Readers(ctx, names)
}

// leads reports whether it is this node that does for all what one has to do.
// members are those that share the log; nil where that is not known.
func (b *Broker) leads() (members []string, leads bool) {
	if b.cluster == nil {
		return nil, true
	}
	members, known := b.cluster.Members()
	if !known {
		return nil, false
	}
	return members, len(members) > 0 && members[0] == b.node
}

// orphans are sessions with values whose node is dead, where it is this node
// that looks after them. Broker.mu is held.
func (b *Broker) orphans(members []string, leads bool) (sessions []string) {
	dead := false
	for node := range b.states.nodes {
		dead = dead || node != b.node && !slices.Contains(members, node)
	}
	if b.cluster == nil || !leads || !dead {
		return nil
	}
	for session := range b.states.bound {
		if node := NodeOf(session); node != b.node && !slices.Contains(members, node) {
			sessions = append(sessions, session)
		}
	}
	return sessions
}

// endOfOwn ends a session of this node that a value was bound to, by whatever
// node, when it is not open. Broker.mu is held.
func (b *Broker) endOfOwn(session string) {
	if session != "" && !b.IsForeign(session) && b.expiry.open[session] == 0 {
		b.expiry.ended[session] = struct{}{}
		b.kickExpiry()
	}
}
