// Package hooks tells applications what happens in a hub: requests to URLs, in the
// format of https://www.standardwebhooks.com, and a function of the program.
//
//	h, err := hooks.Open(hub, hooks.Options{})
//	err = h.SetConfig(hooks.Config{Hooks: []hooks.Hook{{URL: …, Events: []string{hooks.Connected}}}})
//	…
//	h.Flush(ctx) // when the program ends
//	h.Close()
//
// A stream never waits for a receiver: events are queued, within bounds, and what
// exceeds them is dropped, counted and logged. The queue is in memory: what is in it is
// lost with the process.
package hooks

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

// Bounds of the queue. Each receiver has an equal share of it, and each session and
// channel may fill a tenth of that.
const (
	maxQueued      = 10_000
	maxQueuedBytes = 64 << 20
	laneShare      = 10 // the part of a receiver's share that one lane may fill
)

// The reasons for which events are dropped.
const (
	DroppedFull    = "full"    // there was no room in the queue
	DroppedFailed  = "failed"  // all attempts have failed
	DroppedGone    = "gone"    // the receiver has answered 410
	DroppedRemoved = "removed" // the hook was removed from the configuration
	DroppedExit    = "exit"    // the process ends
)

// DropReasons returns the reasons for which events are dropped.
func DropReasons() []string {
	return []string{DroppedFull, DroppedFailed, DroppedGone, DroppedRemoved, DroppedExit}
}

// Options are what does not change while Hooks are open.
type Options struct {
	// Logger is for what concerns the operator. Default: slog.Default.
	Logger *slog.Logger
	// Transport makes the requests. Default: one that uses no proxy.
	Transport http.RoundTripper
}

// Hooks sends the events of a hub. Its methods are safe for concurrent use.
type Hooks struct {
	hub       *hub.Hub
	logger    *slog.Logger
	client    *http.Client
	transport *http.Transport // of client, if it is not that of the Options
	ctx       context.Context // of requests; it ends with Close
	cancel    context.CancelFunc
	run       sync.WaitGroup

	mu        sync.Mutex // guards what follows; it is taken while those of the hub are held
	receivers map[string]*receiver
	flushing  bool          // nothing is tried again
	closed    bool          // nothing is queued any more
	queued    int           // of all receivers
	empty     chan struct{} // closed when queued has become 0; nil if nobody waits for it
	sent      uint64
	dropped   map[string]uint64
}

// Stats is what Hooks have counted.
type Stats struct {
	Queued  int               // events that wait, once for each receiver
	Sent    uint64            // that were taken
	Dropped map[string]uint64 // by DropReasons
}

// Open makes the hooks of a hub. There are none until SetConfig.
func Open(h *hub.Hub, o Options) *Hooks {
	k := &Hooks{hub: h, logger: o.Logger, receivers: make(map[string]*receiver), dropped: make(map[string]uint64)}
	if k.logger == nil {
		k.logger = slog.Default()
	}
	if o.Transport == nil {
		k.transport = newTransport()
		o.Transport = k.transport
	}
	k.client = newClient(o.Transport)
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// SetConfig replaces the configuration. What is queued for a URL that remains goes on;
// what is queued for another is dropped. On error nothing has changed.
func (k *Hooks) SetConfig(c Config) error {
	if err := Check(c.Hooks); err != nil {
		return err
	}
	wanted := make(map[string]bool)
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return errors.New("the hooks are closed")
	}
	channels, members := false, false
	set := func(key string, h Hook, sink func(*Event)) {
		wanted[key] = true
		channels = channels || slices.ContainsFunc(h.Events, ofChannels)
		members = members || slices.ContainsFunc(h.Events, ofMembers)
		k.receiver(key).configure(h, sink)
	}
	for _, h := range c.Hooks {
		set(h.URL, h, nil)
	}
	if c.Sink != nil && len(c.SinkEvents) > 0 {
		set("", Hook{Events: c.SinkEvents}, c.Sink)
	}
	for key, r := range k.receivers {
		if !wanted[key] {
			delete(k.receivers, key)
			r.clear(DroppedRemoved)
		}
	}
	for _, r := range k.receivers {
		r.maxQueued, r.maxBytes = maxQueued/len(k.receivers), maxQueuedBytes/len(k.receivers)
	}
	k.mu.Unlock()
	if len(wanted) == 0 {
		k.hub.Observe(nil, false, false)
	} else {
		k.hub.Observe(k, channels, members)
	}
	return nil
}

// Stats returns what was counted.
func (k *Hooks) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Stats{Queued: k.queued, Sent: k.sent, Dropped: maps.Clone(k.dropped)}
}

// Flush sends what is queued, without trying anything again, until ctx ends; the rest
// is dropped, and so is what comes later. Hubs whose streams have ended flush.
func (k *Hooks) Flush(ctx context.Context) {
	k.hub.FlushActivity(ctx)
	k.mu.Lock()
	k.flushing = true
	for _, r := range k.receivers {
		r.hurry()
	}
	empty := make(chan struct{})
	if k.queued == 0 {
		close(empty)
	} else if k.empty == nil {
		k.empty = empty
	} else {
		empty = k.empty
	}
	k.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, r := range k.receivers {
		r.clear(DroppedExit)
	}
}

// Close drops what is queued, and waits until requests have been given up. Flush comes
// before, where what is queued is to be sent.
func (k *Hooks) Close() {
	k.hub.Observe(nil, false, false)
	k.mu.Lock()
	k.closed = true
	for _, r := range k.receivers {
		r.clear(DroppedExit)
	}
	k.mu.Unlock()
	k.cancel()
	k.run.Wait()
	if k.transport != nil {
		k.transport.CloseIdleConnections()
	}
}

// add queues an event for all that want it.
func (k *Hooks) add(e *Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.receivers {
		if r.filter.matches(e) {
			if e.ID == "" {
				e.ID = newID()
			}
			r.add(e)
		}
	}
}

// wants reports whether any receiver wants events of a name.
func (k *Hooks) wants(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.receivers {
		if slices.Contains(r.filter.events, name) {
			return true
		}
	}
	return false
}

// Connected implements hub.Observer.
func (k *Hooks) Connected(s hub.SessionEvent) {
	if k.wants(Connected) {
		k.add(sessionEvent(k.hub.Name(), Connected, &s))
	}
}

// Disconnected implements hub.Observer.
func (k *Hooks) Disconnected(s hub.SessionEvent) {
	if k.wants(Disconnected) {
		k.add(sessionEvent(k.hub.Name(), Disconnected, &s))
	}
}

// ChannelActive implements hub.Observer.
func (k *Hooks) ChannelActive(name string) {
	if k.wants(ChannelActive) {
		k.add(channelEvent(k.hub.Name(), ChannelActive, name))
	}
}

// ChannelIdle implements hub.Observer.
func (k *Hooks) ChannelIdle(name string) {
	if k.wants(ChannelIdle) {
		k.add(channelEvent(k.hub.Name(), ChannelIdle, name))
	}
}

// MemberJoined implements hub.Observer.
func (k *Hooks) MemberJoined(channel, user string) {
	if k.wants(MemberJoined) {
		k.add(memberEvent(k.hub.Name(), MemberJoined, channel, user))
	}
}

// MemberLeft implements hub.Observer.
func (k *Hooks) MemberLeft(channel, user string) {
	if k.wants(MemberLeft) {
		k.add(memberEvent(k.hub.Name(), MemberLeft, channel, user))
	}
}

// StateChanged implements hub.Observer.
func (k *Hooks) StateChanged(c broker.StateChange) {
	if k.wants(StateChanged) {
		k.add(stateEvent(k.hub.Name(), &c))
	}
}

// drop counts an event that is not sent. Hooks.mu is held.
func (k *Hooks) drop(n int, reason string) { k.dropped[reason] += uint64(n) }

// Interface guard
var _ hub.Observer = (*Hooks)(nil)
