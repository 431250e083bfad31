package stream

import (
	"runtime"
	"time"
)

// breather interrupts a goroutine that works for long, so that others get to run. It
// is for one goroutine. The zero value is ready for use.
//
// The Go scheduler polls the network when no goroutine is runnable, and every 10 ms.
// Where all cores write to streams, runtime.Gosched alone would let a request wait
// for that long.
type breather struct {
	poll   networkPoll   // nil until the first breath
	ends   time.Time     // of the current turn
	breath time.Duration // how long others took last
	rested time.Duration // and in all
}

// networkPoll waits until the Go runtime has polled the network.
type networkPoll interface {
	wait()
	close()
}

// turnTime is how long a goroutine writes to streams before others get to run. A
// publish, and a stream that is woken alone, wait as long.
const turnTime = time.Millisecond

// A turn is breathShare times as long as others took before it, up to maxTurn. If it
// were not, publishers that send one event after the other would outrun the writers.
const (
	breathShare = 8
	maxTurn     = 4 * turnTime
)

// begin begins a turn at now.
func (b *breather) begin(now time.Time) {
	b.ends = now.Add(min(max(turnTime, breathShare*b.breath), maxTurn))
}

// breathe lets others run if the turn is over, and begins the next one.
func (b *breather) breathe() {
	if now := time.Now(); now.After(b.ends) {
		b.rest(now)
	}
}

// rest lets others run.
func (b *breather) rest(now time.Time) {
	if b.poll == nil {
		b.poll = newNetworkPoll()
	}
	b.poll.wait()
	runtime.Gosched() // those that the network has woken come first
	end := time.Now()
	b.breath = end.Sub(now)
	b.rested += b.breath
	b.begin(end)
}

func (b *breather) close() {
	if b.poll != nil {
		b.poll.close()
		b.poll = nil
	}
}

// sleepPoll is the networkPoll of systems other than Linux. A sleep, too, leaves the
// processor without a runnable goroutine.
type sleepPoll struct{}

func (sleepPoll) wait()  { time.Sleep(time.Microsecond) }
func (sleepPoll) close() {}
