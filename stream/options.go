package stream

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Options say what a stream reads and how it behaves. Durations that are zero
// take the default, and those above ten years are ten years.
type Options struct {
	Subscribe broker.SubscribeOptions // without an ID, one is made

	NoOpen  bool // no opening event
	Padding bool // 2 KiB of comment first, for middleboxes that buffer

	// Heartbeat is how long a stream is quiet before it gets a sign of life.
	// Default: 15s; below zero, never.
	Heartbeat time.Duration
	// HeartbeatEvent sends an event named "heartbeat" instead of a comment.
	HeartbeatEvent bool
	// RetryMin and RetryMax bound the random time that a client is told to
	// wait before it reconnects. Default: 2s and 5s.
	RetryMin, RetryMax time.Duration
	// WriteTimeout is how long a write may be stalled; for every 128 KiB a slow
	// client has that long. Default: 10s.
	WriteTimeout time.Duration
	// MaxAge is how long a stream may last; each gets a random 80 to 100 % of
	// it. Default: as long as it likes.
	MaxAge time.Duration
	// Expires is when the credential expires that the stream was opened with.
	// The client is told 30 s before, or at half of the time if that is less,
	// by an event "evstream.expiring"; then the stream ends. Default: never.
	Expires time.Time

	// OnEnd is called once when a stream that was served has ended; for a
	// detached one that is long after Detach. It may take its time, but another
	// stream's may wait for it.
	OnEnd func()
}

// longest bounds durations: what is added to a moment is a moment still.
const maxDuration = 10 * 365 * 24 * time.Hour

func (o *Options) fill() {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
		*d = min(*d, maxDuration)
	}
	set(&o.Heartbeat, 15*time.Second)
	set(&o.RetryMin, 2*time.Second)
	set(&o.RetryMax, max(5*time.Second, o.RetryMin))
	set(&o.WriteTimeout, 10*time.Second)
	set(&o.MaxAge, 0)
}
