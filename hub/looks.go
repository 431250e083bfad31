package hub

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/internal/ratelimit"
)

// ErrLookRate is the error of a stream or a poll that may not begin, because what its
// caller began before has made the broker look at too much.
var ErrLookRate = errkind.New("read-rate", "read_rate", "what you began to read before took too long to find: name fewer patterns, or channels themselves")

// looksPerRead is how many names and events the broker looks at for each read of the
// rate, to find where streams and polls begin: publishing waits meanwhile.
const looksPerRead = 500

// looksOf is the rate of looks that goes with one of reads.
func looksOf(reads Rate) Rate {
	reads.PerSecond = min(reads.PerSecond*looksPerRead, ratelimit.Max)
	reads.Burst = min(reads.Burst, ratelimit.Max/looksPerRead) * looksPerRead
	return reads
}

// LooksOf bounds what the broker looks at for a share, see ShareOf; "" has no bound.
// What one beginning takes is known only afterwards: it is counted then, and the next
// ones wait for it.
func (h *Hub) LooksOf(share string) broker.Looks {
	if share == "" {
		return nil
	}
	return looks{&h.limits.looks, share}
}

type looks struct {
	meters *ratelimit.Meters
	share  string
}

// May implements broker.Looks.
func (l looks) May() error {
	if !l.meters.Take(l.share, 0, time.Now()) {
		return ErrLookRate
	}
	return nil
}

// Count implements broker.Looks.
func (l looks) Count(looked int) { l.meters.Charge(l.share, looked, time.Now()) }
