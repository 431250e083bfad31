package broker

import (
	"sync"
)

// follower is the Broker as its log sees it.
type follower struct {
	b     *Broker
	once  sync.Once
	first chan struct{} // closed when it is known how the log stands
}

// Start implements Follower.
func (f *follower) Start(o Origin) {
	b := f.b
	b.mu.Lock()
	b.given, b.durable = newGiven(o.ID), o.Durable
	b.loadStates(o.States)
	b.mu.Unlock()
	b.head.Store(&o.ID)
}

// Apply implements Follower.
func (f *follower) Apply(entries []Entry) { f.b.apply(entries) }

// Ready implements Follower.
func (f *follower) Ready() { f.once.Do(func() { close(f.first) }) }

// Cut implements Follower.
func (f *follower) Cut(error) { f.once.Do(func() { close(f.first) }) }

var _ Follower = (*follower)(nil)
