//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// The load of the scenarios about Redis.
	redisEvent       = 200 // bytes of data
	redisSubscribers = 100
	redisRate        = 500  // events a second
	busyRate         = 2000 // events a second, where nodes only follow
	manyPublishers   = 64
)

// redisScenario publishes through Redis, and for comparison with a log in memory
// and with nodes that use the pub/sub of Redis.
var redisScenario = scenario{
	name: "redis",
	about: func(settings) string {
		return fmt.Sprintf("%d-byte events: %d a second to %d subscribers; then publishing back to back, to nobody. All nodes and Redis share the server's core",
			redisEvent, redisRate, redisSubscribers)
	},
	figures: []string{
		"p50 ms", "p99 ms", fmt.Sprintf("Redis µs/event at %d/s", redisRate),
		"acknowledged/s, 1 publisher", fmt.Sprintf("acknowledged/s, %d publishers", manyPublishers),
		"Redis µs/event", "publishing node µs/event", "other node µs/event",
	},
	run: throughRedis,
	own: (*workshop).redisTargets, base: pubsubName,
}

// followersScenario measures what each node that follows the log costs Redis, and
// what following costs a node.
var followersScenario = scenario{
	name: "followers",
	about: func(settings) string {
		return fmt.Sprintf("%d-byte events, which one node publishes and all nodes take in, without subscribers. All nodes are one process", redisEvent)
	},
	figures: []string{
		fmt.Sprintf("Redis µs/event at %d/s", redisRate), fmt.Sprintf("nodes µs/event at %d/s", redisRate),
		fmt.Sprintf("Redis µs/event at %d/s", busyRate), fmt.Sprintf("nodes µs/event at %d/s", busyRate),
	},
	run: followRedis,
	own: (*workshop).followersTargets, base: followersName(1),
}

// behind has the other processes of a target.
type behind struct {
	redis int    // the process of its Redis, 0 if there is none
	other int    // the process of another node, 0 if there is none
	reads string // the address for subscribers, "" for that of the server
}

// throughRedis measures a server of redisScenario.
func throughRedis(t *trial) ([]float64, error) {
	t.duration /= 2
	paced, err := t.pacedThroughRedis()
	if err != nil {
		return nil, err
	}
	t.duration /= 2
	one, err := t.acknowledged(plan{publishers: 1, size: redisEvent})
	if err != nil {
		return nil, err
	}
	many, err := t.acknowledged(plan{publishers: manyPublishers, size: redisEvent})
	if err != nil {
		return nil, err
	}
	return append(paced, one.rate, many.rate, many.redis, many.node, many.other), nil
}

// pacedThroughRedis publishes at a modest rate to subscribers.
func (t *trial) pacedThroughRedis() ([]float64, error) {
	p := plan{publishers: maxPublishers, size: redisEvent, rate: redisRate}
	if err := t.connectPublishers(t.plain, p.publishers); err != nil {
		return nil, err
	}
	reads := t.plain
	if t.behind.reads != "" {
		reads = t.behind.reads
	}
	n := min(redisSubscribers, t.subscribers)
	if err := t.subscribe(reads, n, "", t.numbers); err != nil {
		return nil, err
	}
	before, begun, redis, other := t.sent(), t.tally.now(), clockOf(t.behind.redis), clockOf(t.behind.other)
	m, err := t.measure(p)
	if err != nil {
		return nil, err
	}
	redis = clockOf(t.behind.redis) - redis // including the warm-up of measure
	other = clockOf(t.behind.other) - other
	t.belongs(redis+other, begun)
	t.drop()
	return []float64{m.p50, m.p99, micros(redis) / float64(t.sent()-before)}, nil
}

// acknowledgement is the result of publishing without subscribers: events a
// second, and µs an event.
type acknowledgement struct{ rate, node, redis, other float64 }

// acknowledged executes a plan, for the time in the settings.
func (t *trial) acknowledged(p plan) (acknowledgement, error) {
	if err := t.connectMany(p.publishers); err != nil {
		return acknowledgement{}, err
	}
	defer t.drop()
	p.duration = t.duration / 5
	if _, _, err := t.drive(p); err != nil {
		return acknowledgement{}, err
	}
	p.duration = t.duration
	before, begun := t.sent(), t.tally.now()
	redis, other := clockOf(t.behind.redis), clockOf(t.behind.other)
	m := startMeter(t.pid, t.cores.loads)
	if _, _, err := t.drive(p); err != nil {
		return acknowledgement{}, err
	}
	u := m.stop()
	redis, other = clockOf(t.behind.redis)-redis, clockOf(t.behind.other)-other
	took := time.Duration(t.tally.now()-begun) * time.Microsecond
	t.usages = append(t.usages, u)
	t.belongs(redis+other, begun)
	n := float64(t.sent() - before)
	return acknowledgement{
		rate:  n / took.Seconds(),
		node:  micros(u.server) / n,
		redis: micros(redis) / n,
		other: micros(other) / n,
	}, nil
}

// belongs subtracts the other processes of the target from the CPU of processes
// that do not belong to the last measurement.
func (t *trial) belongs(ran time.Duration, begun int64) {
	last := &t.usages[len(t.usages)-1]
	took := time.Duration(t.tally.now()-begun) * time.Microsecond
	last.others = max(0, last.others-float64(ran)/float64(took))
}

// connectMany opens n connections for publishers. Marks cannot name so many, so
// that there must be no subscribers.
func (t *trial) connectMany(n int) error {
	for i := 0; i < n; i += maxPublishers {
		if err := t.connectPublishers(t.plain, min(maxPublishers, n-i)); err != nil {
			return err
		}
	}
	return nil
}

// sent is how many events have been published.
func (t *trial) sent() (n int) {
	for _, number := range t.numbers {
		n += int(number)
	}
	return n
}

// followRedis measures nodes that only follow.
func followRedis(t *trial) ([]float64, error) {
	t.duration /= 2
	var figures []float64
	for _, rate := range []int{redisRate, busyRate} {
		a, err := t.acknowledged(plan{publishers: maxPublishers, size: redisEvent, rate: rate})
		if err != nil {
			return nil, err
		}
		figures = append(figures, a.redis, a.node)
	}
	return figures, nil
}

// clockOf is the CPU time of a process, 0 if there is none.
func clockOf(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	var t unix.Timespec
	if err := unix.ClockGettime(processClock(pid), &t); err != nil {
		return 0 // it has ended, so that the run fails elsewhere
	}
	return time.Duration(t.Nano())
}
