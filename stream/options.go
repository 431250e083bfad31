package stream

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Options say what a stream reads and how it behaves. A duration of zero means
// the default; one of more than ten years means ten years.
type Options struct {
	Subscribe broker.SubscribeOptions // if it has no ID a random one is made; Waker is ignored

	NoOpen  bool // omit the event "evstream.open"
	Padding bool // begin with 2 KiB of comment, for proxies that buffer
	// Raw leaves out all events of the hub's own, also the end, and reconnect delays. At
	// a gap the response is cut, and a stream that would begin with one is refused.
	Raw bool
	// Whole is for clients that take the end of the response for the end of what they
	// read: where the stream ends before all its channels are closed, the response is cut.
	Whole bool
	// Opening, if it is not nil, is what the stream begins with, verbatim, in place of
	// the comment. It is for Raw.
	Opening []byte
	// Rewriter, if it is set, has a say in what is written. It is for Raw.
	Rewriter Rewriter
	// Ignored are the names of what was asked for and has no meaning: the event
	// "evstream.open" lists them.
	Ignored []string

	// Heartbeat is how long a stream is quiet before it gets a heartbeat.
	// Default: 15s; negative: never.
	Heartbeat time.Duration
	// HeartbeatEvent makes heartbeats events of type "heartbeat", not comments.
	HeartbeatEvent bool
	// RetryMin and RetryMax bound the reconnect delay that a client is told,
	// which is random. Default: 2s, and 5s or RetryMin if that is more.
	RetryMin, RetryMax time.Duration
	// WriteTimeout is how long a client may take to accept a write of up to
	// 128 KiB before it is cut off; a larger one is written in pieces of that
	// size. Default: 10s.
	WriteTimeout time.Duration
	// MaxAge is how long a stream may last; each lasts a random 80 to 100 % of
	// it. Default: unlimited.
	MaxAge time.Duration
	// Expires is when the client's credential expires, and the stream ends. An
	// event "evstream.expiring" announces it 30 s before, or after half of the
	// time that is left if that is later. Default: never.
	Expires time.Time

	// OnEnd is called once, when a stream that was served or detached has ended.
	// It may block, but detached streams that end meanwhile wait for it, and so
	// does Server.Close, which it must not call.
	OnEnd func()
}

// maxDuration bounds durations, so that sums of an instant and a duration do not
// overflow.
const maxDuration = 10 * 365 * 24 * time.Hour

// fill sets defaults and bounds.
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
