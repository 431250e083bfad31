package hooks

import (
	"log/slog"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

const (
	// maxWorkers bounds the requests to one URL at a time. One that answers slowly
	// holds up as many sessions and channels, and then all others of its URL, until
	// the requests time out; never those of another URL.
	maxWorkers = 16
	// maxRetryAfter bounds how long a receiver may ask to be left alone.
	maxRetryAfter = time.Hour
)

// retryDelays returns the times between the five attempts, which together take about
// five minutes. Each is jittered by a fifth.
func retryDelays() []time.Duration {
	return []time.Duration{5 * time.Second, 25 * time.Second, 90 * time.Second, 180 * time.Second}
}

// receiver is who gets events: a URL, or the sink. Hooks.mu guards it.
type receiver struct {
	hooks  *Hooks
	name   string // for logs: a URL without its query
	hook   Hook
	sink   func(*Event)
	filter filter

	maxQueued, maxBytes int
	queued, bytes       int
	lanes               map[string]*lane
	ready               []*lane // that have an event to send now, in order
	workers             int

	paused time.Time // it asked to be left alone until then
	resume *time.Timer
	gone   bool // it has answered 410, and gets nothing until it is configured again

	// What the log says of it. Each thing is said once until it has recovered, and a
	// failure once a minute at most.
	failing bool
	failed  time.Time       // when that was said last
	lost    uint64          // events that were dropped
	said    map[string]bool // the reasons for which some were
}

// lane are the events of one session or one channel that wait: the first is sent before
// the next.
type lane struct {
	name     string
	events   []*Event
	attempts int         // of the first event that have failed
	busy     bool        // the first event is being sent
	hurried  bool        // and that began after Flush
	retry    *time.Timer // until which the first event waits; nil if it does not
}

// receiver returns the receiver of a key, a new one if there is none. Hooks.mu is held.
func (k *Hooks) receiver(key string) *receiver {
	r := k.receivers[key]
	if r == nil {
		r = &receiver{hooks: k, lanes: make(map[string]*lane), said: make(map[string]bool)}
		k.receivers[key] = r
	}
	return r
}

func (r *receiver) configure(h Hook, sink func(*Event)) {
	r.hook, r.sink, r.filter, r.gone = h, sink, h.filter(), false
	r.name = "Caddy events"
	if sink == nil {
		u, _ := url.Parse(h.URL) // Check has found it valid
		r.name = u.Scheme + "://" + u.Host + u.Path
	}
}

// add queues an event, or drops it where there is no room.
func (r *receiver) add(e *Event) {
	l := r.lanes[e.lane]
	switch {
	case r.hooks.closed:
		r.drop(1, DroppedExit)
		return
	case r.gone:
		r.drop(1, DroppedGone)
		return
	case r.queued >= r.maxQueued || r.bytes+e.size > r.maxBytes || l != nil && len(l.events) >= max(2, r.maxQueued/laneShare):
		r.drop(1, DroppedFull)
		return
	}
	if l == nil {
		l = &lane{name: e.lane}
		r.lanes[e.lane] = l
	}
	l.events = append(l.events, e)
	l.sort()
	r.queued++
	r.bytes += e.size
	r.hooks.queued++
	if len(l.events) == 1 {
		r.ready = append(r.ready, l)
		r.work()
	}
}

// sort moves the last event before those of later versions: changes of a value that are
// made at the same time may come out of order. The first event may have been sent.
func (l *lane) sort() {
	for i := len(l.events) - 1; i > 1; i-- {
		e, before := l.events[i], l.events[i-1]
		if e.version == (broker.ID{}) || !before.version.After(e.version) {
			return
		}
		l.events[i], l.events[i-1] = before, e
	}
}

// work starts a worker if there is something for it.
func (r *receiver) work() {
	most := maxWorkers
	if r.sink != nil {
		most = 1
	}
	if len(r.ready) > 0 && r.workers < most && r.paused.IsZero() {
		r.workers++
		r.hooks.run.Go(r.worker)
	}
}

// worker sends events until none is ready.
func (r *receiver) worker() {
	k := r.hooks
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(r.ready) > 0 && r.paused.IsZero() {
		l := r.ready[0]
		r.ready[0] = nil
		r.ready = r.ready[1:]
		l.busy, l.hurried = true, k.flushing
		e, h, sink := l.events[0], r.hook, r.sink
		k.mu.Unlock()
		var o outcome
		if sink != nil {
			sink(e)
		} else {
			o = k.send(&h, e)
		}
		k.mu.Lock()
		l.busy = false
		if r.lanes[l.name] == l { // else it was cleared meanwhile, and counted as dropped
			r.done(l, o)
		}
	}
	r.workers--
}

// done notes what came of the first event of a lane.
func (r *receiver) done(l *lane, o outcome) {
	k := r.hooks
	if o.err == nil {
		k.sent++
		r.next(l)
		if (r.failing || r.lost > 0) && r.queued <= r.maxQueued/2 {
			k.logger.Info("a hook succeeds again", slog.String("broker", k.hub.Name()), slog.String("url", r.name), slog.Uint64("dropped", r.lost))
			r.failing, r.lost = false, 0
			clear(r.said)
		}
		return
	}
	if o.gone {
		k.logger.Error("a hook has answered 410: it gets no event until the configuration is loaded again", slog.String("broker", k.hub.Name()), slog.String("url", r.name))
		r.gone = true
		r.clear(DroppedGone)
		return
	}
	if !r.failing && time.Since(r.failed) >= time.Minute {
		r.failed = time.Now()
		k.logger.Warn("a hook fails: each event is tried five times", slog.String("broker", k.hub.Name()), slog.String("url", r.name), slog.Any("error", o.err))
		r.failing = true
	}
	if o.wait > 0 && !k.flushing {
		r.pause(min(o.wait, maxRetryAfter))
	}
	delays := retryDelays()
	switch {
	case l.hurried:
		r.drop(1, DroppedExit)
		r.next(l)
		return
	case l.attempts == len(delays):
		r.drop(1, DroppedFailed)
		r.next(l)
		return
	case k.flushing: // it has one attempt at the exit, as what waited has
		r.ready = append(r.ready, l)
		r.work()
		return
	}
	delay := delays[l.attempts]
	delay += rand.N(2*delay/5) - delay/5 //nolint:gosec // it spreads load and guards nothing
	l.attempts++
	l.retry = time.AfterFunc(delay, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		r.again(l)
	})
}

// again makes a lane ready that waits.
func (r *receiver) again(l *lane) {
	if l.retry == nil || r.lanes[l.name] != l {
		return
	}
	l.retry.Stop()
	l.retry = nil
	r.ready = append(r.ready, l)
	r.work()
}

// next takes the first event out of a lane.
func (r *receiver) next(l *lane) {
	r.count(l.events[0])
	l.events[0] = nil
	l.events, l.attempts = l.events[1:], 0
	if len(l.events) == 0 {
		delete(r.lanes, l.name)
		return
	}
	r.ready = append(r.ready, l)
	r.work()
}

// count notes that an event is not queued any more.
func (r *receiver) count(e *Event) {
	k := r.hooks
	r.queued--
	r.bytes -= e.size
	if k.queued--; k.queued == 0 && k.empty != nil {
		close(k.empty)
		k.empty = nil
	}
}

// pause leaves the receiver alone for some time.
func (r *receiver) pause(d time.Duration) {
	until := time.Now().Add(d)
	if !until.After(r.paused) {
		return
	}
	if r.resume != nil {
		r.resume.Stop()
	}
	k := r.hooks
	r.paused = until
	r.resume = time.AfterFunc(d, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if r.paused.Equal(until) {
			r.unpause()
		}
	})
}

func (r *receiver) unpause() {
	if r.resume != nil {
		r.resume.Stop()
	}
	r.paused, r.resume = time.Time{}, nil
	for range min(maxWorkers, len(r.ready)) {
		r.work()
	}
}

// hurry sends at once what waits to be tried again.
func (r *receiver) hurry() {
	for _, l := range r.lanes {
		r.again(l)
	}
	r.unpause()
}

// clear drops all that is queued. What is being sent may arrive all the same.
func (r *receiver) clear(reason string) {
	n := r.queued
	for _, l := range r.lanes {
		if l.retry != nil {
			l.retry.Stop()
			l.retry = nil
		}
		for _, e := range l.events {
			r.count(e)
		}
	}
	clear(r.lanes)
	r.ready = nil
	if r.resume != nil {
		r.resume.Stop()
	}
	r.paused, r.resume = time.Time{}, nil
	if n > 0 {
		r.drop(n, reason)
	}
}

// drop counts events that are not sent, and says so once for each reason, until one is
// taken again.
func (r *receiver) drop(n int, reason string) {
	k := r.hooks
	k.drop(n, reason)
	r.lost += uint64(n)
	if r.said[reason] {
		return
	}
	r.said[reason] = true
	k.logger.Error("events for a hook are dropped; evstream_hooks_dropped_total counts them", slog.String("broker", k.hub.Name()),
		slog.String("url", r.name), slog.String("reason", reason), slog.Int("events", n))
}
