package hub

import (
	"log/slog"
	"time"
)

// activityKind is what an activity is about: which channels are read, or who is a member.
type activityKind struct {
	about string                         // the subject of notices
	names int                            // bounds the names in one notice
	most  int                            // bounds the names of one node
	what  string                         // that the names are of, for the log
	after time.Duration                  // how long a name is idle before that is told
	say   func(Observer, string, bool)   // that a name is active, or idle
	watch func(h *Hub, on bool)          // begins to set readers, or ends it
	holds func(h *Hub, node string) bool // the names of a node that is gone are active still; nil: never
	log   func(h *Hub, err error)        // telling fails, or succeeds again
}

// readersKind is of the channels that are read.
func readersKind() activityKind {
	return activityKind{
		about: aboutReaders, names: noticeNames, most: maxActive, what: "channels that are read", after: idleAfter,
		say: func(o Observer, name string, active bool) {
			if active {
				o.ChannelActive(name)
			} else {
				o.ChannelIdle(name)
			}
		},
		watch: func(h *Hub, on bool) {
			if on {
				h.broker.Observe((*brokerObserver)(&h.activity))
			} else {
				h.broker.Observe(nil)
			}
		},
		log: func(h *Hub, err error) {
			if err != nil {
				h.logger.Warn("telling other nodes which channels are read fails: trying again until it succeeds", slog.String("broker", h.name), slog.Any("error", err))
			} else {
				h.logger.Info("telling other nodes which channels are read succeeds again", slog.String("broker", h.name))
			}
		},
	}
}
