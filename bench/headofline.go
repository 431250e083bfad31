//go:build linux

package main

import (
	"time"
)

const (
	headOfLineName = "headofline"

	// The crowd is so many times the subscribers: 5,000 by default.
	crowdTimes = 5
	smallRate  = 25 // events a second to the one reader
	slowCrowd  = 5  // events a second to the crowd
	fastCrowd  = 20

	// After how many reads of the crowd's sockets those of the one reader and its
	// publisher are looked at, so that they do not wait for the load itself.
	glance = 8
)

func crowdOf(s settings) int { return crowdTimes * s.subscribers }

// feeder publishes to one channel at a rate.
type feeder struct {
	*publisher
	tally   *tally
	number  uint32
	sent    int
	readers int
	answers histogram
}

// lap discards the latencies so far.
func (f *feeder) lap() {
	f.tally.lap()
	f.answers.reset()
}

// due is when its next event is due, of rate a second since begun.
func (f *feeder) due(begun int64, rate int) int64 { return begun + int64(f.sent)*1e6/int64(rate) }

// feed publishes what is due of rate events a second since begun.
func (f *feeder) feed(begun int64, rate int) error {
	if rate == 0 || !f.idle {
		return nil
	}
	due := f.due(begun, rate)
	if due > f.tally.now() {
		return nil
	}
	f.sent++
	f.number++
	f.answered = func(at int64) { f.answers.add(at - due) }
	return f.publish(smallEvent, f.number, due)
}

// headOfLine measures the scenario.
func headOfLine(t *trial) ([]float64, error) {
	if err := t.connectPublishers(t.plain, 2); err != nil {
		return nil, err
	}
	crowd := &feeder{publisher: t.publishers[0], tally: t.tally}
	small := &feeder{publisher: t.publishers[1], tally: newTally()}
	small.tally.begun = t.tally.begun
	small.path = smallPath
	reader := &subscriber{checker: newChecker(small.tally, 0, t.numbers)}
	link := &link{hello: []byte(subscription(t.plain, smallPath, "")), take: reader.take}
	if err := t.dial(t.plain, link); err != nil {
		return nil, err
	}
	if err := t.until("the one reader is ready", func() bool { ready, _, _ := small.tally.counts(); return ready == 1 }); err != nil {
		return nil, err
	}
	small.readers = 1
	var figures []float64
	if _, err := t.beside(small, crowd, 0); err != nil {
		return nil, err
	}
	p50, p99 := small.tally.lateness()
	figures = append(figures, p50, p99)

	if err := t.subscribe(t.plain, crowdOf(t.settings), "", t.numbers); err != nil {
		return nil, err
	}
	crowd.readers = crowdOf(t.settings)
	reads := 0
	t.between = func() error {
		if reads++; reads%glance != 0 {
			return nil
		}
		if err := t.serve(link, 0); err != nil {
			return err
		}
		return t.serve(small.link, 0)
	}
	for _, rate := range []int{slowCrowd, fastCrowd} {
		u, err := t.beside(small, crowd, rate)
		if err != nil {
			return nil, err
		}
		p50, p99 := small.tally.lateness()
		figures = append(figures, p50, p99)
		if rate == fastCrowd {
			p50, _ := crowd.tally.lateness()
			figures = append(figures, small.answers.quantile(0.99), crowd.answers.quantile(0.99), p50, u.busy())
		}
	}
	return figures, nil
}

// beside publishes to the small channel, and rate events a second to the crowd, and
// waits until all have arrived. A warm-up comes first.
func (t *trial) beside(small, crowd *feeder, rate int) (usage, error) {
	var m *meter
	for _, took := range []time.Duration{t.duration / 5, t.duration} {
		small.lap()
		crowd.lap()
		m = startMeter(t.pid, t.cores.loads)
		if err := t.feedBoth(small, crowd, rate, took); err != nil {
			return usage{}, err
		}
	}
	u := m.stop()
	t.usages = append(t.usages, u)
	return u, nil
}

// feedBoth publishes for a while.
func (t *trial) feedBoth(small, crowd *feeder, rate int, took time.Duration) error {
	_, smallBefore, _ := small.tally.counts()
	_, crowdBefore, _ := crowd.tally.counts()
	small.sent, crowd.sent = 0, 0
	for begun := t.tally.now(); t.tally.now()-begun < took.Microseconds(); {
		if err := crowd.feed(begun, rate); err != nil {
			return err
		}
		if err := small.feed(begun, smallRate); err != nil {
			return err
		}
		wait := time.Millisecond
		if small.due(begun, smallRate)-t.tally.now() < wait.Microseconds() {
			wait = 0 // what is due must not wait for the load
		}
		if err := t.turn(wait); err != nil {
			return err
		}
	}
	return t.until("deliveries", func() bool {
		_, smallNow, _ := small.tally.counts()
		_, crowdNow, _ := crowd.tally.counts()
		return small.idle && crowd.idle && smallNow-smallBefore >= small.sent*small.readers &&
			crowdNow-crowdBefore >= crowd.sent*crowd.readers
	})
}
