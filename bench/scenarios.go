//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// settings are the size of the load.
type settings struct {
	subscribers int
	connections int // idle ones
	duration    time.Duration
	profiles    string // a directory for CPU profiles, or ""
}

// The fixed part of the load.
const (
	smallEvent = 100 // bytes of data
	largeEvent = 1024
	window     = 64 // events outstanding when publishing back to back

	// How many bytes a staller has missed: more than the 4 MiB that Linux buffers for
	// a socket by default.
	missedEvent  = 8 << 10
	missedEvents = 600

	rate = 50 // events a second, when not publishing back to back
)

// scenario is one thing to measure.
type scenario struct {
	name    string
	about   func(settings) string
	figures []string // their names, with units
	secure  bool     // over TLS
	// Subscribers share connections, so that the limit of open files does not bound
	// their number.
	multiplexed bool
	run         func(*trial) ([]float64, error)

	// Its own targets, instead of those of the command line, and the one by whose
	// figures the others are divided.
	own  func(*workshop) []target
	base string
}

var scenarios = []scenario{
	{
		name: "fanout",
		about: func(s settings) string {
			return fmt.Sprintf("%d subscribers, one channel, %d-byte events back to back, %d outstanding", s.subscribers, smallEvent, window)
		},
		figures: []string{"deliveries/s", "CPU µs/delivery"},
		run:     fanout,
	},
	{
		name: "latency",
		about: func(s settings) string {
			return fmt.Sprintf("%d subscribers, one channel, %d-byte events, %d a second", s.subscribers, smallEvent, rate)
		},
		figures: []string{"p50 ms", "p99 ms", "CPU µs/delivery"},
		run:     latency,
	},
	{
		name:    "memory",
		about:   func(s settings) string { return fmt.Sprintf("%d connections, one channel", s.connections) },
		figures: []string{"KB/connection, idle", "KB/connection, after an event", "CPU µs/connect"},
		run:     memory,
	},
	{
		name: "replay",
		about: func(s settings) string {
			return fmt.Sprintf("%d subscribers at once resume in the middle of %d events", s.subscribers, historyEvents)
		},
		figures: []string{"events/s", "CPU µs/event"},
		run:     replay,
	},
	{
		name: "stalled",
		about: func(s settings) string {
			return fmt.Sprintf("%d of %d subscribers stop reading what they missed; %d-byte events, %d a second", stallers(s), s.subscribers, largeEvent, rate)
		},
		figures: []string{"p99 ms, none stalled", "p99 ms of the others", "others/none", "RSS growth MB"},
		run:     stalled,
	},
	{
		name: "http2",
		about: func(s settings) string {
			return fmt.Sprintf("%d streams over TLS, %d on a connection", s.subscribers, perConnection)
		},
		figures:     secureFigures,
		secure:      true,
		multiplexed: true,
		run:         http2,
	},
	{
		name:    "tls",
		about:   func(s settings) string { return fmt.Sprintf("%d streams over TLS, HTTP/1.1", s.subscribers) },
		figures: secureFigures,
		secure:  true,
		run:     overTLS,
	},
	{
		name: "headofline",
		about: func(s settings) string {
			return fmt.Sprintf("a channel with one reader, %d events a second, alone and beside one with %d readers, %d and %d events a second",
				smallRate, crowdOf(s), slowCrowd, fastCrowd)
		},
		figures: []string{
			"p50 ms alone", "p99 ms alone",
			fmt.Sprintf("p50 ms beside %d/s", slowCrowd), fmt.Sprintf("p99 ms beside %d/s", slowCrowd),
			fmt.Sprintf("p50 ms beside %d/s", fastCrowd), fmt.Sprintf("p99 ms beside %d/s", fastCrowd),
			fmt.Sprintf("answer p99 ms, beside %d/s", fastCrowd), fmt.Sprintf("the crowd's answer p99 ms at %d/s", fastCrowd),
			fmt.Sprintf("the crowd's p50 ms at %d/s", fastCrowd), fmt.Sprintf("CPU of a core at %d/s", fastCrowd),
		},
		run: headOfLine,
	},
	redisScenario,
	followersScenario,
}

var secureFigures = []string{
	fmt.Sprintf("CPU µs/delivery at %d/s", rate), fmt.Sprintf("p99 ms at %d/s", rate),
	"CPU µs/delivery back to back", "deliveries/s back to back",
}

// stallers is how many subscribers stop reading.
func stallers(s settings) int { return max(1, s.subscribers/20) }

// trial is one run of a scenario on one target.
type trial struct {
	settings
	*workshop
	*server
	*generator
	name   string // of the scenario and the target
	usages []usage
}

// try starts a target, runs a scenario on it and ends it.
func (w *workshop) try(ctx context.Context, s *scenario, t target, how settings) ([]float64, []usage, error) {
	server, err := t.start(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer server.stop()
	g, err := newGenerator(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer g.close()
	run := &trial{settings: how, workshop: w, server: server, generator: g, name: s.name + "-" + t.name}
	figures, err := s.run(run)
	if err != nil {
		return nil, nil, fmt.Errorf("%w%s", err, server.complaints())
	}
	return figures, run.usages, nil
}

var (
	backToBack = plan{publishers: maxPublishers, size: smallEvent, window: window}
	paced      = plan{publishers: 2, size: smallEvent, rate: rate}
)

// measured is the result of publishing for a while.
type measured struct {
	rate, cpu float64 // deliveries a second, µs a delivery
	p50, p99  float64 // ms
}

// measure executes a plan for the time in the settings, after a warm-up of a fifth
// of that.
func (t *trial) measure(p plan) (measured, error) {
	p.duration = t.duration / 5
	if _, _, err := t.drive(p); err != nil {
		return measured{}, err
	}
	p.duration = t.duration
	t.tally.lap()
	profiled := t.profile()
	m := startMeter(t.pid, t.cores.loads)
	deliveries, took, err := t.drive(p)
	if err = errors.Join(err, profiled()); err != nil {
		return measured{}, err
	}
	u := m.stop()
	t.usages = append(t.usages, u)
	p50, p99 := t.tally.lateness()
	return measured{
		rate: float64(deliveries) / took.Seconds(),
		cpu:  micros(u.server) / float64(deliveries),
		p50:  p50,
		p99:  p99,
	}, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func fanout(t *trial) ([]float64, error) {
	if err := t.gather(t.subscribers); err != nil {
		return nil, err
	}
	m, err := t.measure(backToBack)
	return []float64{m.rate, m.cpu}, err
}

func latency(t *trial) ([]float64, error) {
	if err := t.gather(t.subscribers); err != nil {
		return nil, err
	}
	m, err := t.measure(paced)
	return []float64{m.p50, m.p99, m.cpu}, err
}

// gather connects publishers and n subscribers.
func (t *trial) gather(n int) error {
	if err := t.connectPublishers(t.plain, maxPublishers); err != nil {
		return err
	}
	return t.subscribe(t.plain, n, "", t.numbers)
}

func memory(t *trial) ([]float64, error) {
	// What is allocated only once does not count for connections.
	if err := t.gather(t.subscribers); err != nil {
		return nil, err
	}
	if _, _, err := t.drive(plan{publishers: 1, size: smallEvent, window: 1, events: 10}); err != nil {
		return nil, err
	}
	t.drop()
	empty, err := t.steady()
	if err != nil {
		return nil, err
	}
	m := startMeter(t.pid, t.cores.loads)
	if err := t.subscribe(t.plain, t.connections, "", t.numbers); err != nil {
		return nil, err
	}
	u := m.stop()
	t.usages = append(t.usages, u)
	idle, err := t.steady()
	if err != nil {
		return nil, err
	}
	if err := t.connectPublishers(t.plain, 1); err != nil {
		return nil, err
	}
	if _, _, err := t.drive(plan{publishers: 1, size: smallEvent, window: 1, events: 1}); err != nil {
		return nil, err
	}
	used, err := t.steady()
	if err != nil {
		return nil, err
	}
	n := float64(t.connections)
	return []float64{(idle - empty) / n / 1000, (used - empty) / n / 1000, micros(u.server) / n}, nil
}

// steady waits until the resident memory of the server no longer changes, and
// returns it.
func (t *trial) steady() (float64, error) {
	before, err := resident(t.pid)
	for range 10 {
		if err != nil {
			return 0, err
		}
		if err := t.settle(200 * time.Millisecond); err != nil {
			return 0, err
		}
		var now float64
		if now, err = resident(t.pid); math.Abs(now-before) < before/200 {
			return now, err
		}
		before = now
	}
	return before, err
}

func replay(t *trial) ([]float64, error) {
	if err := t.connectPublishers(t.plain, 1); err != nil {
		return nil, err
	}
	half := plan{publishers: 1, size: smallEvent, events: historyEvents / 2}
	if _, _, err := t.drive(half); err != nil {
		return nil, err
	}
	had := t.numbers
	middle, err := t.publishers[0].id()
	if err != nil {
		return nil, err
	}
	if _, _, err := t.drive(half); err != nil {
		return nil, err
	}
	t.drop()
	events, took := 0, time.Duration(0)
	profiled := t.profile()
	m := startMeter(t.pid, t.cores.loads)
	for took < t.duration {
		begun := t.tally.now()
		_, before, _ := t.tally.counts()
		if err := t.subscribe(t.plain, t.subscribers, middle, had); err != nil {
			return nil, err
		}
		want := t.subscribers * historyEvents / 2
		if err := t.until("replays", func() bool {
			_, delivered, _ := t.tally.counts()
			return delivered-before >= want
		}); err != nil {
			return nil, err
		}
		t.drop()
		events += want
		took += time.Duration(t.tally.newest()-begun) * time.Microsecond
	}
	if err := profiled(); err != nil {
		return nil, err
	}
	u := m.stop()
	t.usages = append(t.usages, u)
	return []float64{float64(events) / took.Seconds(), micros(u.server) / float64(events)}, nil
}

func stalled(t *trial) ([]float64, error) {
	if err := t.connectPublishers(t.plain, paced.publishers); err != nil {
		return nil, err
	}
	if _, _, err := t.drive(plan{publishers: 1, size: smallEvent, events: 1}); err != nil {
		return nil, err
	}
	first, err := t.publishers[0].id()
	if err != nil {
		return nil, err
	}
	if _, _, err := t.drive(plan{publishers: 1, size: missedEvent, events: missedEvents}); err != nil {
		return nil, err
	}
	if err := t.subscribe(t.plain, t.subscribers-stallers(t.settings), "", t.numbers); err != nil {
		return nil, err
	}
	p := paced
	p.size = largeEvent
	none, err := t.measure(p)
	if err != nil {
		return nil, err
	}
	before, err := resident(t.pid)
	if err != nil {
		return nil, err
	}
	if err := t.stall(t.plain, stallers(t.settings), first); err != nil {
		return nil, err
	}
	others, err := t.measure(p)
	if err != nil {
		return nil, err
	}
	after, err := resident(t.pid)
	if err != nil {
		return nil, err
	}
	return []float64{none.p99, others.p99, others.p99 / none.p99, (after - before) / 1e6}, nil
}

func http2(t *trial) ([]float64, error) {
	if err := t.overHTTP2(t.secure, t.Pool, t.subscribers); err != nil {
		return nil, err
	}
	return t.secured()
}

func overTLS(t *trial) ([]float64, error) {
	if err := t.overTLS(t.secure, t.Pool, t.subscribers); err != nil {
		return nil, err
	}
	return t.secured()
}

// secured publishes to streams over TLS.
func (t *trial) secured() ([]float64, error) {
	if err := t.connectPublishers(t.plain, maxPublishers); err != nil {
		return nil, err
	}
	slow, err := t.measure(paced)
	if err != nil {
		return nil, err
	}
	fast, err := t.measure(backToBack)
	return []float64{slow.cpu, slow.p99, fast.cpu, fast.rate}, err
}
