package hub

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
)

// Channels that sessions join and leave while they last.

// onJoin handles verbJoin. What the session's own caller may read is decided by the
// handler that serves it: if that is replaced meanwhile, the decision is made again.
func (h *Hub) onJoin(ctx context.Context, s *Session, c *sessionCall) (any, error) {
	if c.Start == nil {
		c.Start = new(broker.Start)
	}
	// Another node, which is ahead of this one, may have told the cursor.
	if err := h.broker.Reach(ctx, *c.Start); err != nil {
		return nil, err
	}
	for {
		standing := h.Standing(s)
		own := h.isOwn(s, c)
		by := (*access.Caller)(nil) // the session's own
		switch {
		case own && standing.MayRead != nil && standing.MayRead(standing.Caller, c.Channel):
		case reachOf(c.Within).contains(c.Channel):
			by = new(access.Caller)
			if c.By != nil {
				by.Admin, by.Name, by.User = c.By.Admin, c.By.Name, c.By.User
			}
		case own:
			return sessionReply{Refused: access.Subscribe}, nil
		default:
			return sessionReply{Refused: access.UseSessions}, nil
		}
		if reads, same, err := h.join(s, standing.Owner, c.Channel, *c.Start, by); same {
			return sessionReply{Reads: reads}, err
		}
	}
}

// join has a session join a channel, if its owner is still the one that was asked.
func (h *Hub) join(s *Session, owner any, name string, start broker.Start, by *access.Caller) (reads []string, same bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch reads = s.Stream.Channels(); {
	case s.standing.Owner != owner:
		return nil, false, nil
	case h.sessions[s.Stream.ID()] != s:
		return nil, true, broker.ErrNoSession
	case slices.Contains(reads, name):
		return reads, true, nil
	}
	switch err := s.Stream.Join(name, start); {
	case errors.Is(err, broker.ErrClosed):
		return nil, true, broker.ErrNoSession // it has ended just now
	case err != nil:
		return nil, true, err
	}
	reads = s.Stream.Channels()
	u := s.own()
	if u.joined == nil {
		u.joined = make(map[string]*access.Caller)
	}
	u.joined[reads[len(reads)-1]] = by // and not name, which may be a part of something large
	h.tellReaders(s, name, false)
	h.joinPresence(s, name)
	return reads, true, nil
}

// onLeave handles verbLeave.
func (h *Hub) onLeave(s *Session, c *sessionCall) (any, error) {
	if !h.isOwn(s, c) && !reachOf(c.Within).contains(c.Channel) {
		return sessionReply{Refused: access.UseSessions}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.Stream.ID()] != s {
		return nil, broker.ErrNoSession
	}
	was := h.leave(s, c.Channel)
	return sessionReply{Reads: s.Stream.Channels(), Was: was}, nil
}

// leave has a session leave a channel. Hub.mu is held.
func (h *Hub) leave(s *Session, name string) bool {
	if !s.Stream.Leave(name) {
		return false
	}
	delete(s.joined(), name)
	h.tellReaders(s, name, true)
	h.leavePresence(s, name)
	return true
}

// BeganWith returns what a session reads, without what it has joined since it began.
func (h *Hub) BeganWith(s *Session) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(s.Stream.Channels(), func(name string) bool {
		_, joined := s.joined()[name]
		return joined
	})
}

// Rejudge asks mayRead about each channel that a session has joined since it began, and
// has it leave those that are not allowed. by is who had it join by access.UseSessions,
// nil for its own caller. If the session's standing is changed first, a channel that it
// joins later is decided by that.
func (h *Hub) Rejudge(s *Session, mayRead func(name string, by *access.Caller) bool) {
	h.mu.Lock()
	joined := maps.Clone(s.joined())
	h.mu.Unlock()
	for name, by := range joined {
		if mayRead(name, by) {
			continue
		}
		h.mu.Lock()
		if now, ok := s.joined()[name]; ok && now == by {
			h.leave(s, name)
		}
		h.mu.Unlock()
	}
}
