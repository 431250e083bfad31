package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// Making and dropping the feeds of channels, and of names beneath. All of it under
// Broker.mu, unless it says otherwise.

// sweepEvery is how often channels that nobody publishes to are looked at for events
// that have become too old.
const sweepEvery = 5 * time.Second

// addChannel adds the feed of a channel, or of a name beneath, that id publishes to;
// nil if there is no room. The subscriptions that a new name beneath reaches read it
// from then on.
func (b *Broker) addChannel(name string, id Owner) *feed {
	if !b.yieldChannel(id) {
		return nil
	}
	f := b.addFeed(name, inChannels, id)
	b.pushIdle(f)
	b.setFull()
	b.reach(f)
	return f
}

// reach has the subscriptions that a new name beneath reaches read it from now on.
func (b *Broker) reach(f *feed) {
	if channel.IsBeneath(f.name) {
		b.eachReached(f.name, func(sub *Subscription) {
			if !sub.has(f) {
				b.addBeneath(sub, f)
			}
		})
	}
}

// keepName adds the feed of a channel that id reads and nobody has published to.
// Nothing is dropped for it.
func (b *Broker) keepName(name string, id Owner) (*feed, error) {
	if err := b.roomFor(inNames, id); err != nil {
		return nil, err
	}
	return b.addFeed(name, inNames, id), nil
}

// publishedTo makes a name that only readers kept a channel. If no other channel can
// be dropped for it there is one too many: its readers get what is published.
func (b *Broker) publishedTo(f *feed, id Owner) {
	b.yieldChannel(id)
	b.move(f, inChannels, id)
	b.setFull()
}

// roomFor reports why an owner cannot get one more name or pattern, nil if it can.
// The names and the channels together are at most twice as many as either: a channel
// that is one too many is in place of a name.
func (b *Broker) roomFor(t table, id Owner) error {
	own, most := b.owners.byID[id], b.boundOf(t)
	if b.overShare(own, t) && !b.dropUnread(t, own) {
		if t == inPatterns {
			return fmt.Errorf("%w: one caller may have %d of them", ErrShareOfPatterns, b.share(most))
		}
		return fmt.Errorf("%w: one caller may have %d of them", ErrShareOfNames, b.share(most))
	}
	full := b.held[t] >= most || t == inNames && b.held[t]+b.held[inChannels]-most >= most
	if full && !b.dropUnread(t, nil) {
		if t == inPatterns {
			return ErrTooManyPatterns
		}
		return ErrTooManyChannels
	}
	return nil
}

func (b *Broker) addFeed(name string, t table, id Owner) *feed {
	name = strings.Clone(name) // it may be a part of a request
	f := newFeed(name, b.policyOf(name))
	f.numberFrom(1 << 62) // what is older may be prepended
	f.sealed = b.older.unseal(name)
	f.meta = &meta{channel: name, live: f.policy.Events == 0}
	f.trimmed = b.missingOf(name)
	f.captured = b.fillings // a refill that goes on needs nothing of it
	b.feeds[name] = f
	b.names.add(name)
	b.enter(f, t, id)
	return f
}

// eachReached calls do for the readers of channels that a name beneath reaches,
// for each such channel.
func (b *Broker) eachReached(name string, do func(*Subscription)) {
	each := func(other string) {
		if f := b.feeds[other]; f != nil && !channel.IsBeneath(other) {
			for _, p := range f.readers {
				do(p.sub)
			}
		}
	}
	each(strings.TrimSuffix(name, "/"))
	for other := range b.names.with(name) {
		each(other)
	}
}

// markUsed makes f the last one to be dropped of the feeds without readers.
func (b *Broker) markUsed(f *feed) {
	if len(f.readers) == 0 {
		b.removeIdle(f)
		b.pushIdle(f)
	}
}

// removeFeed removes a feed without readers, and leaves a loss mark.
func (b *Broker) removeFeed(f *feed) {
	b.sealRemoved(f)
	b.capture(f)
	f.lose(f.newest())
	b.lossMarks.raise(f.name, f.trimmed)
	b.discharge(f)
	b.removeIdle(f)
	b.leave(f)
	delete(b.feeds, f.name)
	b.names.remove(f.name)
	b.setFull()
}

// setFull notes whether Publish has to look for room.
func (b *Broker) setFull() {
	b.full.Store(b.owners.full > 0 || b.held[inChannels] >= b.cfg.MaxChannels && b.idle.first == nil)
}

// forget drops a feed that has no readers and keeps nothing, and a pattern that
// has had no readers for a while.
func (b *Broker) forget(f *feed, now uint64) {
	switch {
	case len(f.readers) > 0 || f.pins > 0:
	case f.pattern == nil:
		if f.count() == 0 {
			b.removeFeed(f)
		}
	case f.unread == 0 && f.charged > 0:
		f.unread = now
		b.unread.push(f)
	case f.charged == 0 || now >= f.unread+uint64(unreadFor/time.Millisecond):
		b.removePattern(f)
	}
}

// sweepLoop runs until ctx ends.
func (b *Broker) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.sweep()
		}
	}
}

// sweep drops events that have become too old, some channels at a time so that
// publishing goes on. It takes Broker.mu.
func (b *Broker) sweep() {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, feeds := range []map[string]*feed{b.feeds, b.patterns} {
		for _, f := range feeds {
			b.sweepOne(f, now)
			if n++; n%1024 == 0 {
				b.wake()
				b.mu.Unlock()
				b.mu.Lock()
			}
		}
	}
	b.reopenOver(now)
	b.forgetKeys(now)
	b.wake()
}

func (b *Broker) sweepAll(now uint64) {
	for _, f := range b.feeds {
		b.sweepOne(f, now)
	}
	for _, f := range b.patterns {
		b.sweepOne(f, now)
	}
}

func (b *Broker) sweepOne(f *feed, now uint64) {
	f.expire(now)
	b.release(f, now)
	b.releasePassed(f, now)
	if f.state != nil {
		b.release(f.state, now)
	}
	b.forget(f, now)
}
