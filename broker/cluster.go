package broker

import (
	"context"
	"slices"
	"strings"
	"unicode"
)

// A broker whose log several nodes share.

// Node is the name of this node; "" if the log is not shared.
func (b *Broker) Node() string { return b.node }

// Members are the names of the nodes that share the log, including this one. It
// is false if they are not known for sure at the moment, or the log is not shared.
func (b *Broker) Members() ([]string, bool) {
	if b.cluster == nil {
		return nil, false
	}
	return b.cluster.Members()
}

// SessionName makes the name of a session from a random one. It begins with the
// name of this node, so that other nodes know whose session it is.
func (b *Broker) SessionName(random string) string {
	if b.node == "" {
		return random
	}
	return b.node + "." + random
}

// NodeOf is the node that has a session, by its name; "" if the name has none.
func NodeOf(session string) string {
	node, _, found := strings.Cut(session, ".")
	if !found {
		return ""
	}
	return node
}

// IsForeign reports whether another node has the session.
func (b *Broker) IsForeign(session string) bool {
	return b.cluster != nil && NodeOf(session) != b.node
}

// mayBind reports why a value cannot be bound to a session.
func (b *Broker) mayBind(session string) error {
	if strings.ContainsFunc(session, unicode.IsSpace) {
		return ErrNoSession
	}
	if !b.IsForeign(session) {
		if b.isOpen(session) {
			return nil
		}
		return ErrNoSession
	}
	// Its node knows whether the session is open, and removes the value if not.
	if members, known := b.Members(); known && !slices.Contains(members, NodeOf(session)) {
		return ErrNoSession
	}
	return nil
}

// Readers counts the subscribers that each of the named channels has on other
// nodes, as of a few seconds ago. It is zeros if the log is not shared.
func (b *Broker) Readers(ctx context.Context, names []string) ([]int, error) {
	if b.cluster == nil {
		return make([]int, len(names)), nil
	}
	return b.cluster.Readers(ctx, names)
}

// leads reports whether this node is the one that does what only one node has to
// do, such as removing expired values. members are the nodes that share the log;
// nil if they are not known.
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

// orphans are the sessions of dead nodes that have values, if it is this node that
// has to remove them. Broker.mu is held.
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

// endOfOwn has the values of a session removed that is of this node and not open.
// Another node may have bound them to it. Broker.mu is held.
func (b *Broker) endOfOwn(session string) {
	if session != "" && !b.IsForeign(session) && b.expiry.open[session] == 0 {
		b.expiry.ended[session] = struct{}{}
		b.kickExpiry()
	}
}
