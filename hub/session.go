package hub

import (
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/stream"
)

// Session is a stream that is being served, as a Hub knows it. Whoever adds it sets
// the exported fields, and does not change them then.
type Session struct {
	// Stream is the stream itself.
	Stream *stream.Session
	// Address is the IP address of the client.
	Address string
	// Protocol is the major version of HTTP that it is served over. Default: not known.
	Protocol uint8
	served   bool    // see Hub.Served; Hub.mu guards it
	serving  Serving // how it is counted, if served; Hub.mu guards it
	// Watch are the channels of which the session is told who is there.
	Watch []string

	since int64 // when it was added, in Unix nanoseconds

	// Hub.mu guards what follows.
	standing Standing
	counted  string    // the user whose streams it counts among
	uncommon *uncommon // nil for most
}

// uncommon is what few sessions have. Hub.mu guards it.
type uncommon struct {
	ticket  ticketKey         // of the ticket that opened it, or zero
	present *presence.Session // nil if it reads no channel with presence
	// joined are the channels that it did not begin with, and who had it join them; nil
	// for its own caller.
	joined map[string]*access.Caller
}

// own returns what the session has that few have, which is made if there is nothing. Hub.mu
// is held.
func (s *Session) own() *uncommon {
	if s.uncommon == nil {
		s.uncommon = new(uncommon)
	}
	return s.uncommon
}

// joined are the channels that s did not begin with. Hub.mu is held.
func (s *Session) joined() map[string]*access.Caller {
	if s.uncommon == nil {
		return nil
	}
	return s.uncommon.joined
}

// present is who s is to those who are told of presence; nil for nobody. Hub.mu is held.
func (s *Session) present() *presence.Session {
	if s.uncommon == nil {
		return nil
	}
	return s.uncommon.present
}

// Standing is what a reload may change of a session.
type Standing struct {
	Caller *access.Caller // who reads; Kept, because it is held for long
	Drain  time.Duration  // on exit the stream ends within this time
	// MayRead decides whether Caller may join a channel or a pattern. It is called
	// without locks. Default: nothing can be joined but by access.UseSessions.
	MayRead func(who *access.Caller, name string) bool
	// Owner belongs to whoever serves the stream. The hub only compares it: see
	// SetStanding.
	Owner any
}

// Session returns the stream with that id, nil if there is none.
func (h *Hub) Session(id string) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

// Sessions returns the streams that are in the hub, in no order. The slice is the
// caller's.
func (h *Hub) Sessions() []*Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		list = append(list, s)
	}
	return list
}

// Standing returns the standing of a session as it is now.
func (h *Hub) Standing(s *Session) Standing {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.standing
}

// SetStanding changes the standing of a session if its owner still is from, and
// reports whether it did.
func (h *Hub) SetStanding(s *Session, from any, to Standing) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.standing.Owner != from {
		return false
	}
	was := s.standing.Caller
	s.standing = to
	if present := s.present(); present != nil && was.User != to.Caller.User {
		h.presence.LeaveAll(present, -1)
		s.uncommon.present = nil
		h.joinAllPresence(s)
	}
	return true
}
