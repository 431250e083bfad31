package hub

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// A session is present in the channels that it reads by name, and not in those that
// only a pattern of it selects: as channels count their subscribers.

// openPresence makes the table of who is present, as the configuration says.
func (h *Hub) openPresence(c *Config) {
	h.presence = presence.New(presence.Config{
		Node:      h.broker.Node(),
		Tell:      func(ctx context.Context, data []byte) error { return h.broker.Tell(ctx, aboutPresence, data) },
		Members:   h.broker.Members,
		Ready:     func() bool { return h.broker.Loaded() == nil },
		MaxNotice: broker.MaxNotice,
		Logger:    c.Logger.With("broker", h.name),
	})
	h.presence.SetRules(c.Presence)
}

// goodbyeTime is how long other nodes may take to hear that this one leaves.
const goodbyeTime = 500 * time.Millisecond

func (h *Hub) closePresence() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTime)
	defer cancel()
	h.presence.Close(ctx)
}

// setPresence replaces the rules. Hub.mu is held.
func (h *Hub) setPresence(rules *presence.Rules) {
	h.presence.SetRules(rules)
	for _, s := range h.sessions {
		h.joinAllPresence(s)
	}
}

// joinAllPresence makes a session present in the channels that it reads. Hub.mu is held.
func (h *Hub) joinAllPresence(s *Session) {
	if !h.presence.Active() {
		return
	}
	for _, name := range s.Stream.Channels() {
		h.joinPresence(s, name)
	}
}

// joinPresence makes a session present in a channel that it reads from now on, if that has
// presence. Hub.mu is held.
func (h *Hub) joinPresence(s *Session, name string) {
	if !h.HasPresence(name) {
		return
	}
	if s.present() == nil {
		who := s.standing.Caller
		s.own().present = &presence.Session{User: who.User, Claims: who.Claims, Meta: who.Meta, Share: ShareOf(who, s.Address), Sink: s.Stream}
	}
	h.presence.Join(s.present(), name, slices.Contains(s.Watch, name))
}

// leavePresence ends the presence of a session in a channel that it does not read any more.
// Hub.mu is held.
func (h *Hub) leavePresence(s *Session, name string) {
	if s.present() != nil {
		h.presence.Leave(s.present(), name, 0)
	}
}

// leaveAllPresence ends the presence of a session that has ended. One that was told to come back
// has the time for it besides the grace. Hub.mu is held.
func (h *Hub) leaveAllPresence(s *Session, served bool) {
	if s.present() == nil {
		return
	}
	reconnects := time.Duration(0)
	switch s.Stream.Reason() {
	case stream.ReasonShutdown, stream.ReasonReload, stream.ReasonAge, stream.ReasonExpired:
		reconnects = s.Stream.RetryMax()
	}
	if !served {
		reconnects = -1
	}
	h.presence.LeaveAll(s.present(), reconnects)
}

// HasPresence reports whether a channel has presence; a pattern has none.
func (h *Hub) HasPresence(name string) bool {
	return h.presence.Active() && !channel.IsPattern(name) && h.presence.Has(name)
}

// Present returns at most limit of those who are in a channel on any node: members whose
// names sort after a name.
func (h *Hub) Present(name, after string, limit int) presence.Page {
	return h.presence.Members(name, after, limit)
}

// ObservePresence has f called with who comes and goes: see presence.Table.Observe.
func (h *Hub) ObservePresence(f func([]presence.Change)) { h.presence.Observe(f) }

// presentCall sets the metadata of a session's user.
type presentCall struct {
	Channel string `json:"channel"`
	Meta    []byte `json:"meta"` // as it is, and not as package json would write it
}

// SetPresent sets the metadata of a member of a channel: of the user of a session, or
// where none is named, of who. It is that of presence.CheckMeta, and lasts as long as
// the user is a member. The error is one for problem.Of.
func (h *Hub) SetPresent(ctx context.Context, who *access.Caller, session, name string, meta json.RawMessage) error {
	if session == "" {
		return h.setPresent(who, name, meta)
	}
	var none struct{}
	err := h.call(ctx, session, verbPresent, presentCall{name, meta}, &none)
	if errors.Is(err, errNoReply) {
		err = problem.Uncertain.Hiding(err, "the node of the session does not answer, so whether the metadata was set is unknown")
	}
	return err
}

func (h *Hub) setPresent(who *access.Caller, name string, meta json.RawMessage) error {
	if who.User == "" {
		return problem.Forbidden.Because("%s has no user: who is counted without a name has no metadata", who)
	}
	if err := h.presence.SetMeta(name, who.User, meta); err != nil {
		return problem.NotFound.Because("%s is not in channel %q", who, name)
	}
	return nil
}

// onPresent handles verbPresent.
func (h *Hub) onPresent(_ context.Context, s *Session, args json.RawMessage) (any, error) {
	var c presentCall
	if err := json.Unmarshal(args, &c); err != nil {
		return nil, err
	}
	if !slices.Contains(s.Stream.Channels(), c.Channel) {
		return nil, problem.NotFound.Because("the session does not read channel %q", c.Channel)
	}
	return struct{}{}, h.setPresent(h.Standing(s).Caller, c.Channel, c.Meta)
}
