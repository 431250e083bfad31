package hub

import (
	"log/slog"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/presence"
)

// Who is a member of which channel is agreed as it is of readers: see activity. Each node
// tells in the log which members it has itself. With the first notice of a member on any
// node it has joined, with the last one it has left.

// aboutMembers is the subject of notices of members.
const aboutMembers = "members"

// noticeMembers bounds the members in one notice: with names of 511 bytes together, and
// escaped, they fit.
const noticeMembers = 16

// memberKey is the name of a member in an activity. No name of a channel has a NUL.
func memberKey(channel, user string) string { return channel + "\x00" + user }

// membersKind is of the members of channels.
func membersKind() activityKind {
	return activityKind{
		about: aboutMembers, names: noticeMembers, most: maxActive, what: "members",
		say: func(o Observer, key string, active bool) {
			if channel, user, _ := strings.Cut(key, "\x00"); active {
				o.MemberJoined(channel, user)
			} else {
				o.MemberLeft(channel, user)
			}
		},
		watch: func(h *Hub, on bool) {
			if on {
				h.presence.ObserveOwn(h.members.setMembers)
			} else {
				h.presence.ObserveOwn(nil)
			}
		},
		// The clients of a node that leaves come back to others, and are not missed before.
		holds: func(h *Hub, node string) bool { return h.presence.Knows(node) },
		log: func(h *Hub, err error) {
			if err != nil {
				h.logger.Warn("telling other nodes who is present fails: trying again until it succeeds", slog.String("broker", h.name), slog.Any("error", err))
			} else {
				h.logger.Info("telling other nodes who is present succeeds again", slog.String("broker", h.name))
			}
		},
	}
}

// setMembers takes in which members this node has.
func (a *activity) setMembers(list []presence.Own) {
	for i := range list {
		m := &list[i]
		key := memberKey(m.Channel, m.User)
		if m.Here && !m.ByName && !a.agreed(key) {
			continue
		}
		readers := 0
		if m.Here {
			readers = 1
		}
		a.setReaders(key, readers)
	}
}

// agreed reports whether a name is active on some node.
func (a *activity) agreed(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[name] > 0
}

// endAll makes all names of this node idle.
func (a *activity) endAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.observer == nil {
		return
	}
	for name, c := range a.own {
		if c.read {
			c.read, c.since = false, time.Now()
			a.dirty[name] = struct{}{}
		}
	}
}
