package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// What is done with a session, whichever node serves it. The node of the session decides,
// by what the caller's node says of the caller, and acts at once: the session cannot have
// joined another channel in between.

// Bounds of what is done with sessions.
const (
	// MaxSessionEvent is the size of the data of an event to one session, in bytes: it
	// has to fit into a notice.
	MaxSessionEvent = 32 << 10
	// MaxEndReason is the length of the reason for ending a session, in bytes.
	MaxEndReason = 255
)

// Asker is who asks for something to be done with a session, and by what right: with
// the caller's own sessions, or with those of others by what Within says.
type Asker struct {
	Caller *access.Caller
	// Within are the patterns with which the caller may use the sessions of others:
	// those of access.UseSessions. To see, to end and to send to a session, they have to
	// contain all that it reads; for a join and a leave, the channel.
	Within []string
}

// RefusedError is the error of an Asker who may not do that.
type RefusedError struct {
	Verb    string // of access, that the asker or the session's caller lacks
	Channel string // for a join of a channel: which
}

func (e *RefusedError) Error() string {
	if e.Verb == access.Subscribe {
		return fmt.Sprintf("the caller of the session may not read channel %q", problem.Clip(e.Channel))
	}
	return "it is the session of somebody else, and the caller has no permission to use it (session)"
}

// ProblemKind implements the interface of package problem.
func (*RefusedError) ProblemKind() string { return string(problem.Forbidden) }

// SessionInfo describes a session.
type SessionInfo struct {
	Session  string    `json:"session"`
	User     string    `json:"user,omitempty"`
	Bearer   string    `json:"bearer,omitempty"` // the name of the bearer that reads it
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`
	Protocol string    `json:"protocol,omitempty"`
	Channels []string  `json:"channels"`         // names and patterns
	Joined   []string  `json:"joined,omitempty"` // those of Channels that it did not begin with
	Cut      bool      `json:"cut,omitempty"`    // Channels and Joined are too long to be told to another node, and not complete
	Cursor   string    `json:"last_event_id"`
	Events   uint64    `json:"events"` // that were written
	Lag      int64     `json:"lag"`    // milliseconds that the oldest unread event has waited
}

// sessionCall has the arguments of a verb.
type sessionCall struct {
	Who    []byte   `json:"who"` // callerDigest of the asker
	Within []string `json:"within,omitempty"`
	Reason string   `json:"reason,omitempty"`

	Event *pushedEvent `json:"event,omitempty"`

	Channel string        `json:"channel,omitempty"`
	Start   *broker.Start `json:"start,omitempty"`
	By      *grantor      `json:"by,omitempty"`
}

// pushedEvent is an event to one session. Its data is text, which JSON might make six
// times as long.
type pushedEvent struct {
	Type  string `json:"type,omitempty"`
	Data  []byte `json:"data"`
	Retry int64  `json:"retry,omitempty"`
}

// grantor is who had a session join a channel by access.UseSessions: what other nodes
// may know of that caller.
type grantor struct {
	Admin bool   `json:"admin,omitempty"`
	Name  string `json:"name,omitempty"`
	User  string `json:"user,omitempty"`
}

// sessionReply is the result of a verb.
type sessionReply struct {
	Refused string       `json:"refused,omitempty"` // RefusedError.Verb
	Info    *SessionInfo `json:"info,omitempty"`
	Reads   []string     `json:"reads,omitempty"` // after a join or a leave
	Was     bool         `json:"was,omitempty"`   // of a leave: the channel was read
}

// DescribeSession describes a session. The error is broker.ErrNoSession, a
// *RefusedError, or that its node does not answer.
func (h *Hub) DescribeSession(ctx context.Context, id string, by Asker) (*SessionInfo, error) {
	r, err := h.useSession(ctx, id, verbDescribe, by, &sessionCall{})
	if errors.Is(err, errNoReply) {
		return nil, problem.Unavailable.Because("%w", errNoReply)
	}
	if err != nil {
		return nil, err
	}
	if r.Info == nil {
		return nil, errNoReply
	}
	return r.Info, nil
}

// EndSession ends a session for good: its client gets what was published so far, and the
// event "end" with the reason, if that is not empty. The errors are those of
// DescribeSession; where its node did not answer, problem.Uncertain.
func (h *Hub) EndSession(ctx context.Context, id, reason string, by Asker) error {
	_, err := h.useSession(ctx, id, verbEnd, by, &sessionCall{Reason: reason})
	return uncertain(err, "whether the session was ended is unknown")
}

// SendTo sends an event to one session. It is in no history, and has no id. When SendTo
// returns nil, the node of the session has taken it. Beside the errors of EndSession
// there is problem.Overloaded while too many such events wait for the client.
func (h *Hub) SendTo(ctx context.Context, id string, e *sse.Event, by Asker) error {
	switch err := broker.CheckEvent(e); {
	case err != nil:
		return err
	case e.ID != "":
		return problem.BadEvent.Because("an event to one session has no id: it is in no history, so that nothing could be resumed from it")
	case len(e.Data)+len(e.Type) > MaxSessionEvent:
		return problem.TooLarge.Because("an event to one session has at most %d bytes, not %d", MaxSessionEvent, len(e.Data)+len(e.Type))
	}
	_, err := h.useSession(ctx, id, verbSend, by, &sessionCall{Event: &pushedEvent{Type: e.Type, Data: e.Data, Retry: e.Retry}})
	return uncertain(err, "whether the event was sent is unknown")
}

// JoinSession has a session read a channel or a pattern, too, from start on, and returns
// all that it reads then. Its own caller must be allowed to read that, or the asker to
// use sessions for it. The errors are those of EndSession and of stream.Session.Join;
// on each of them but problem.Uncertain nothing has changed.
func (h *Hub) JoinSession(ctx context.Context, id, name string, start broker.Start, by Asker) (reads []string, err error) {
	if _, err := channel.ParsePattern(name); err != nil {
		return nil, err
	}
	c := &sessionCall{Channel: name, Start: &start, By: &grantor{by.Caller.Admin, by.Caller.Name, by.Caller.User}}
	r, err := h.useSession(ctx, id, verbJoin, by, c)
	return r.Reads, uncertain(err, "whether the session has joined is unknown")
}

// LeaveSession has a session read a channel or a pattern no more, and returns all that it
// reads then. It reports whether that was read. The errors are those of EndSession.
func (h *Hub) LeaveSession(ctx context.Context, id, name string, by Asker) (reads []string, was bool, err error) {
	r, err := h.useSession(ctx, id, verbLeave, by, &sessionCall{Channel: name})
	return r.Reads, r.Was, uncertain(err, "whether the session has left is unknown")
}

// uncertain is the error of an act whose node did not answer.
func uncertain(err error, what string) error {
	if errors.Is(err, errNoReply) {
		return problem.Uncertain.Because("%w: %s", errNoReply, what)
	}
	return err
}

// useSession has the node of a session handle a verb.
func (h *Hub) useSession(ctx context.Context, id, verb string, by Asker, c *sessionCall) (r sessionReply, err error) {
	c.Who, c.Within = callerDigest(id, by.Caller), by.Within
	if err := h.call(ctx, id, verb, c, &r); err != nil {
		return sessionReply{}, err
	}
	if r.Refused != "" {
		return sessionReply{}, &RefusedError{Verb: r.Refused, Channel: c.Channel}
	}
	return r, nil
}

// onSession handles the verbs for the sessions of this node.
func (h *Hub) onSession(ctx context.Context, verb string, s *Session, raw json.RawMessage) (any, error) {
	var c sessionCall
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("reading what to do with a session: %w", err)
	}
	switch verb {
	case verbJoin:
		return h.onJoin(ctx, s, &c)
	case verbLeave:
		return h.onLeave(s, &c)
	}
	info := h.describe(s)
	if !h.isOwn(s, &c) && !reachOf(c.Within).contains(info.Channels...) {
		return sessionReply{Refused: access.UseSessions}, nil
	}
	switch verb {
	case verbEnd:
		s.Stream.EndBecause(c.Reason)
	case verbSend:
		if c.Event == nil {
			return nil, errors.New("no event was sent")
		}
		err := s.Stream.Offer(sse.Event{Type: c.Event.Type, Data: c.Event.Data, Retry: c.Event.Retry})
		switch {
		case errors.Is(err, stream.ErrEnded):
			return nil, broker.ErrNoSession
		case errors.Is(err, stream.ErrFull):
			return nil, problem.Overloaded.Because("%w", err)
		case err != nil:
			return nil, err
		}
	default:
		if h.broker.Node() != "" {
			info.cut()
		}
		return sessionReply{Info: info}, nil
	}
	return sessionReply{}, nil
}

// isOwn reports whether a session is the asker's own.
func (h *Hub) isOwn(s *Session, c *sessionCall) bool {
	return bytes.Equal(c.Who, callerDigest(s.Stream.ID(), h.Standing(s).Caller))
}

// reach are the patterns of Asker.Within.
type reach []channel.Pattern

func reachOf(patterns []string) reach {
	within := make(reach, 0, len(patterns))
	for _, s := range patterns {
		if p, err := channel.ParsePattern(s); err == nil {
			within = append(within, p)
		}
	}
	return within
}

// contains reports whether each of names lies within one of the patterns. A session that
// reads nothing any more may have read anything: only ** contains it.
func (within reach) contains(names ...string) bool {
	if len(names) == 0 {
		names = []string{"**"}
	}
	for _, name := range names {
		wanted, err := channel.ParsePattern(name)
		if err != nil || !slices.ContainsFunc(within, func(p channel.Pattern) bool { return p.Contains(wanted) }) {
			return false
		}
	}
	return true
}

func (h *Hub) describe(s *Session) *SessionInfo {
	h.mu.Lock()
	who, since := s.standing.Caller, s.since
	reads := s.Stream.Channels()
	var joined []string
	for _, name := range reads {
		if _, ok := s.joined()[name]; ok {
			joined = append(joined, name)
		}
	}
	h.mu.Unlock()
	info := &SessionInfo{
		Session: s.Stream.ID(), User: who.User, Bearer: who.Name, Address: s.Address,
		Since: time.Unix(0, since).UTC().Truncate(time.Millisecond), Channels: reads, Joined: joined,
		Cursor: s.Stream.Cursor().String(), Events: s.Stream.Delivered(), Lag: s.Stream.Lag().Milliseconds(),
	}
	if s.Protocol != 0 {
		info.Protocol = fmt.Sprintf("HTTP/%d", s.Protocol)
	}
	return info
}

// Bounds of what a node tells another one of a session.
const (
	maxInfo     = 24 << 10 // bytes of JSON
	cutChannels = 10       // of 255 bytes, of which JSON may make 1,530
)

// cut shortens what is too long for a notice, and returns how many bytes are left.
func (i *SessionInfo) cut() (size int) {
	data, err := json.Marshal(i)
	if err == nil && len(data) > maxInfo {
		i.Channels, i.Joined, i.Cut = i.Channels[:min(len(i.Channels), cutChannels)], nil, true
		data, _ = json.Marshal(i)
	}
	return len(data)
}
