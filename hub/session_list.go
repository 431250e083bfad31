package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
)

// SessionFilter says which sessions ListSessions lists.
type SessionFilter struct {
	// User is whose. Default: anybody's.
	User string `json:"user,omitempty"`
	// Channel is a name or a pattern of which they may read a channel. Default: any.
	Channel string `json:"channel,omitempty"`
	// After is the Next of the page before.
	After string `json:"after,omitempty"`
	// Limit is how many a page has, at most. Default: 100.
	Limit int `json:"limit"`
}

// SessionPage is a page of sessions, ordered by their ids.
type SessionPage struct {
	Sessions []*SessionInfo `json:"sessions"`
	Next     string         `json:"next,omitempty"`    // SessionFilter.After of the next page, if there may be more
	Nodes    int            `json:"nodes,omitempty"`   // that share the log, where it is known
	Partial  bool           `json:"partial,omitempty"` // not all nodes have answered
}

const (
	// listPatience bounds how long all nodes together have to list their sessions.
	listPatience = 3 * callTimeout
	// maxListed bounds the sessions that a node lists for another one, in bytes of
	// JSON, of which those of one are the last: the reply has to fit into a notice.
	maxListed = 20 << 10
)

// listCall has the arguments of verbList.
type listCall struct {
	SessionFilter
	Within []string `json:"within"` // of the Asker
}

// listReply is the result of verbList.
type listReply struct {
	Sessions []*SessionInfo `json:"sessions"`
	More     bool           `json:"more,omitempty"`
}

// ListSessions lists the sessions of all nodes that the asker may use: all that they read
// lies within by.Within. It asks one node after the other, until the page is full.
func (h *Hub) ListSessions(ctx context.Context, f SessionFilter, by Asker) (*SessionPage, error) {
	if f.Channel != "" {
		if _, err := channel.ParsePattern(f.Channel); err != nil {
			return nil, err
		}
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	page := &SessionPage{Sessions: []*SessionInfo{}}
	starts := []string{""} // what the ids of each node begin with
	if node := h.broker.Node(); node != "" {
		members, known := h.broker.Members()
		page.Nodes, page.Partial = len(members), !known
		if !slices.Contains(members, node) {
			members = append(slices.Clone(members), node)
		}
		starts = starts[:0]
		for _, member := range members {
			starts = append(starts, member+".")
		}
		slices.Sort(starts)
	}
	for _, start := range starts {
		if f.After > start && !strings.HasPrefix(f.After, start) {
			continue
		}
		c := listCall{SessionFilter: f, Within: by.Within}
		c.Limit = f.Limit - len(page.Sessions)
		var r listReply
		var err error
		if h.broker.IsForeign(start) {
			err = h.call(ctx, start, verbList, &c, &r)
		} else {
			r = h.listOwn(&c, 0)
		}
		switch {
		case errors.Is(err, broker.ErrNoSession): // the node is gone
			continue
		case err != nil:
			page.Partial = true
			continue
		}
		page.Sessions = append(page.Sessions, r.Sessions...)
		if n := len(page.Sessions); r.More || n >= f.Limit {
			page.Next = page.Sessions[n-1].Session
			return page, nil
		}
	}
	return page, nil
}

// onList handles verbList.
func (h *Hub) onList(args json.RawMessage) (any, error) {
	var c listCall
	if err := json.Unmarshal(args, &c); err != nil {
		return nil, fmt.Errorf("reading what sessions to list: %w", err)
	}
	return h.listOwn(&c, maxListed), nil
}

// listOwn lists sessions of this node, and stops when they have more than size bytes, if
// that is not 0.
func (h *Hub) listOwn(c *listCall, size int) (r listReply) {
	full := false
	var found []*Session
	h.mu.Lock()
	for id, s := range h.sessions {
		if id > c.After && (c.User == "" || s.standing.Caller.User == c.User) {
			found = append(found, s)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(found, func(a, b *Session) int { return strings.Compare(a.Stream.ID(), b.Stream.ID()) })
	begun, within := time.Now(), reachOf(c.Within)
	for i, s := range found {
		reads := s.Stream.Channels()
		if c.Channel != "" && !slices.ContainsFunc(reads, func(name string) bool { return channel.Overlap(name, c.Channel) }) || !within.contains(reads...) {
			continue
		}
		info := h.describe(s)
		r.Sessions = append(r.Sessions, info)
		if size > 0 {
			size -= info.cut()
			full = size <= 0
		}
		if len(r.Sessions) >= c.Limit || full || time.Since(begun) > callTimeout {
			r.More = i+1 < len(found)
			return r
		}
	}
	return r
}
