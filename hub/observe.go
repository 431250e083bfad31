package hub

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// Observer is told what happens in a hub. Its methods must return at once, and must
// not call the hub or the broker: they are called with their locks held.
type Observer interface {
	// Connected says that a session is being served.
	Connected(SessionEvent)
	// Disconnected says that a session has ended. It comes once for each session of
	// this node, after its Connected, unless nobody observed then.
	Disconnected(SessionEvent)
	// ChannelActive and ChannelIdle say that a channel has its first reader on any
	// node, or has lost its last one. Each is told by one node. Readers of patterns do
	// not count.
	ChannelActive(name string)
	ChannelIdle(name string)
	// MemberJoined and MemberLeft say that a user has become a member of a channel with
	// presence, or is none any more. Each is told by one node. Who joins while there are
	// too many members to tell them by name is not told, and neither that they leave.
	MemberJoined(channel, user string)
	MemberLeft(channel, user string)
	// StateChanged says that a value has changed. It is told by the node that wrote it.
	StateChanged(broker.StateChange)
}

// SessionEvent is what an Observer is told of a session.
type SessionEvent struct {
	Session   string // its id
	User      string // "" if it has none
	Address   string
	Channels  []string // that it reads, or has read at its end: names and patterns
	Since     time.Time
	Reason    stream.Reason // why it ended
	Delivered uint64        // events that were written to it, when it has ended
}

// Observe sets who is told what happens in the hub; nil is nobody, which costs nothing.
// Of channels and values the observer is told only with channels, and of members only
// with members. Those that are read when it begins become active then, and who is a
// member joins.
func (h *Hub) Observe(o Observer, channels, members bool) {
	h.mu.Lock()
	h.observer = o
	h.mu.Unlock()
	h.activity.set(h, o, o != nil && channels)
	h.members.set(h, o, o != nil && members)
}

// set starts an activity, or stops it.
func (a *activity) set(h *Hub, o Observer, on bool) {
	if on {
		a.start(h, o)
	} else {
		a.stop(h)
	}
}

// Served says that a session which was added is being served from now on.
func (h *Hub) Served(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.Stream.ID()] == s {
		h.connected(s)
	}
}

// connected tells the observer of a session, once. Hub.mu is held.
func (h *Hub) connected(s *Session) {
	if s.served {
		return
	}
	s.served = true
	h.countServing(s)
	if h.observer != nil {
		h.observer.Connected(h.sessionEvent(s))
	}
}

// disconnected tells the observer that a session has ended. Hub.mu is held.
func (h *Hub) disconnected(s *Session, reason stream.Reason) {
	h.connected(s) // it may have ended before Served was called
	if h.observer != nil {
		e := h.sessionEvent(s)
		e.Reason, e.Delivered = reason, s.Stream.Delivered()
		h.observer.Disconnected(e)
	}
}

func (h *Hub) sessionEvent(s *Session) SessionEvent {
	return SessionEvent{
		Session: s.Stream.ID(), User: s.standing.Caller.User, Address: s.Address,
		Channels: s.Stream.Channels(), Since: time.Unix(0, s.since),
	}
}
