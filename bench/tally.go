package main

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The data of every event begins with a mark of its publisher, number and time. It
// is a tilde, which is nowhere else in a stream, and digits of six bits, beginning
// at '0'.
const (
	markLen      = 1 + whoDigits + numberDigits + timeDigits
	whoDigits    = 1
	numberDigits = 5
	timeDigits   = 6 // of microseconds: 19 hours

	maxPublishers = 8
)

// appendEvent appends the data of an event, size bytes in all.
func appendEvent(b []byte, size, who int, number uint32, at int64) []byte {
	b = append(b, '~')
	b = appendDigits(b, whoDigits, uint64(who))
	b = appendDigits(b, numberDigits, uint64(number))
	b = appendDigits(b, timeDigits, uint64(at))
	return append(b, bytes.Repeat([]byte("x"), max(0, size-markLen))...)
}

func appendDigits(b []byte, n int, v uint64) []byte {
	for shift := 6 * (n - 1); shift >= 0; shift -= 6 {
		b = append(b, '0'+byte(v>>shift&63))
	}
	return b
}

func digits(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<6 | uint64(c-'0')&63
	}
	return v
}

// tally counts what the subscribers have got, and how late. The streams of TLS
// and HTTP/2 are read by many goroutines, hence the lock.
type tally struct {
	begun time.Time

	mu        sync.Mutex
	ready     int // subscribers that are subscribed
	delivered int
	last      int64 // when the newest event arrived
	late      histogram
	wrong     error // the first thing that went wrong

	// The events by publisher and number, in the order in which the first subscriber
	// has got them; 0 where none has got one.
	order []uint64
}

func newTally() *tally { return &tally{begun: time.Now()} }

// now is the time in microseconds, on the clock of the marks.
func (t *tally) now() int64 { return time.Since(t.begun).Microseconds() }

// counts returns the deliveries so far, and the first error.
func (t *tally) counts() (ready, delivered int, wrong error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready, t.delivered, t.wrong
}

// newest is the time of the last delivery.
func (t *tally) newest() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// lateness is the median and the 99th percentile, in milliseconds.
func (t *tally) lateness() (p50, p99 float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.late.quantile(0.5), t.late.quantile(0.99)
}

// lap discards the latencies so far.
func (t *tally) lap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late.reset()
}

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wrong == nil {
		t.wrong = err
	}
}

// checker checks that one subscriber gets every event once, those of each publisher
// in their order, and all in the same order as other subscribers.
type checker struct {
	*tally
	name  int
	ready bool
	had   [maxPublishers]uint32 // the number of the last event of each publisher
	place int                   // of the next event in the order
	cut   []byte                // the beginning of a mark that has not arrived whole
}

// newChecker checks a subscriber that begins after events of each publisher.
func newChecker(t *tally, name int, had [maxPublishers]uint32) *checker {
	c := &checker{tally: t, name: name, had: had, cut: make([]byte, 0, markLen)}
	for _, number := range had {
		c.place += int(number)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.order) < c.place {
		t.order = append(t.order, 0)
	}
	return c
}

// take counts the events in a piece of a stream that arrived at the time at.
func (c *checker) take(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ready { // with its first bytes the subscription exists
		c.ready = true
		c.tally.ready++
	}
	if len(c.cut) > 0 {
		n := min(len(b), markLen-len(c.cut))
		c.cut = append(c.cut, b[:n]...)
		if b = b[n:]; len(c.cut) < markLen {
			return nil
		}
		if err := c.count(c.cut, at); err != nil {
			return err
		}
		c.cut = c.cut[:0]
	}
	for {
		i := bytes.IndexByte(b, '~')
		if i < 0 {
			return nil
		}
		if b = b[i:]; len(b) < markLen {
			c.cut = append(c.cut, b...)
			return nil
		}
		if err := c.count(b[:markLen], at); err != nil {
			return err
		}
		b = b[markLen:]
	}
}

var (
	errLost  = errors.New("events are lost")
	errTwice = errors.New("an event comes twice or out of order")
	errOrder = errors.New("events are lost or come in another order than elsewhere")
	errMark  = errors.New("an event is damaged")
)

// count counts one event. The caller holds mu.
func (c *checker) count(mark []byte, at int64) error {
	who := digits(mark[1 : 1+whoDigits])
	number := uint32(digits(mark[1+whoDigits : 1+whoDigits+numberDigits]))
	if who >= maxPublishers {
		return fmt.Errorf("subscriber %d: %w: %q", c.name, errMark, mark)
	}
	if due := c.had[who] + 1; number != due {
		what := errLost
		if number < due {
			what = errTwice
		}
		return fmt.Errorf("subscriber %d: %w: publisher %d's event %d comes where %d is due", c.name, what, who, number, due)
	}
	event := who<<32 | uint64(number)
	switch {
	case c.place == len(c.order):
		c.order = append(c.order, event)
	case c.order[c.place] == 0:
		c.order[c.place] = event
	case c.order[c.place] != event:
		other := c.order[c.place]
		return fmt.Errorf("subscriber %d: %w: publisher %d's event %d comes where others have publisher %d's event %d",
			c.name, errOrder, who, number, other>>32, uint32(other))
	}
	c.had[who]++
	c.place++
	c.delivered++
	c.last = at
	c.late.add(at - int64(digits(mark[markLen-timeDigits:])))
	return nil
}
