package hub

import (
	"log/slog"
	"time"
)

// maxActive bounds the names that an activity has of one node. What is read is bounded by
// MaxChannels already, and members by the streams; both can be set higher than this.
const maxActive = 200_000

// sayFullEvery is how often the log says at most that names have no room.
const sayFullEvery = time.Hour

// activityBound is what became of names that had no room. It is guarded by activity.mu.
type activityBound struct {
	untold uint64 // names without room
	unsaid bool   // the log has to say so
	said   time.Time
}

// admit reports whether there is room for one more beside n names, and counts it if there
// is not. Nothing is told of that name then until it is idle and active again: who was not
// told of the one is not told of the other. activity.mu is held.
func (a *activity) admit(n, most int) bool {
	if n < most {
		return true
	}
	a.bound.untold++
	if now := time.Now(); a.bound.said.IsZero() || now.Sub(a.bound.said) >= sayFullEvery {
		a.bound.unsaid, a.bound.said = true, now
		a.wake()
	}
	return false
}

// sayFull says in the log that names had no room, if it has to.
func (a *activity) sayFull(h *Hub) {
	a.mu.Lock()
	say := a.bound.unsaid
	a.bound.unsaid = false
	a.mu.Unlock()
	if say {
		h.logger.Error("hooks are not told of all: too many at a time; evstream_hooks_untold_total counts them", slog.String("of", a.kind.what),
			slog.String("broker", h.name), slog.Int("most", a.kind.most))
	}
}

// untold is how many names had no room.
func (a *activity) untold() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bound.untold
}
