package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// Start says where a subscription begins in each of its channels. The first field
// that is set decides; with none set it begins now.
type Start struct {
	// LastEventID is what a client sends back: a position, or a publisher's id.
	// It is not trusted: with one that is not known, the subscription begins with
	// a gap.
	LastEventID string
	// Since begins with the first event of that time or later.
	Since time.Time
	// Earliest begins with the oldest event kept.
	Earliest bool
	// Last begins with this number of the newest events of each channel.
	Last int
}

// SubscribeOptions say what to read.
type SubscribeOptions struct {
	// ID is the name of the session, for Op.Except and for values that are bound
	// to it; it may be empty.
	ID string
	// Channels are names and patterns. Repeated ones are ignored.
	Channels []string
	Start    Start
	// Types are the event types that are delivered; empty means all. "message"
	// and "" are the same.
	Types []string
	// Envelope makes the data of each event {"ch","event","data"}.
	Envelope bool
	// OneType gives each event the type As, "" for none, and an envelope with the
	// type that it was published with. Types are those that it was published with.
	OneType bool
	As      string
	// OwnIDs gives only those ids that publishers have given: an event that has none of
	// its own comes without an id line, and not with its position.
	OwnIDs bool
	// Audience says who reads, for Op.Filter; nil is nobody in particular.
	Audience Audience
	// Owner is in whose share it counts that a channel or a pattern is kept for
	// this reader.
	Owner Owner
	// Looks, if it is set, bounds what the broker looks at for the reader, also for
	// what it joins, and to find where it goes on after it has fallen behind.
	Looks Looks
	// Waker is called when there may be something to read. If it is nil,
	// Subscription.Wake receives.
	Waker Waker
}

// Waker wakes a reader that waits.
type Waker interface {
	// Wake says that there may be something to read: new events, a gap, or the
	// end of the subscription or the broker. It is called with locks of the
	// broker held, so it must return at once and must not call the broker.
	//
	// crowd says that the reader is one of many that are woken together. Readers
	// that are woken without it should write first: what they wait for is theirs
	// alone or nearly so, and quickly written.
	//
	// It reports whether the reader will now write on a goroutine of its own. If
	// there are many such readers, the broker gives them time to write before it
	// wakes them again. Other readers have to pace their work themselves.
	Wake(crowd bool) bool
}

// Looks bounds how many names and events the broker looks at to find where subscriptions
// and joins begin, while all else waits. It is next to nothing where one begins now, and
// much for the history of a pattern that nobody else reads. It bounds, too, what a reader
// has looked at that was behind when a channel of its pattern was purged. Both methods are called with
// locks of the broker held, one after the other, so that of many who begin at once each is
// counted before the next.
type Looks interface {
	May() error // the error of Subscribe, Join or Read, if it may look at nothing more now
	Count(looked int)
}

// Subscribe starts a subscription, which must be closed. The errors are those of
// Loaded, ErrClosed, ErrNoChannels, ErrName and ErrBeneath for a name that cannot be
// read, one ErrTooMany… for each bound, and that of
// SubscribeOptions.Looks.
func (b *Broker) Subscribe(o SubscribeOptions) (*Subscription, error) {
	if err := b.Loaded(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := ahead{looks: o.Looks}
	defer a.end(b)
	if err := b.maySubscribe(&o); err != nil {
		return nil, err
	}
	if err := a.may(); err != nil {
		return nil, err
	}
	if err := b.refillBeginning(&a, o.Channels, b.lookUp(o.Start, nil), o.Owner); err != nil {
		return nil, err
	}
	if err := b.maySubscribe(&o); err != nil { // again: there may be others by now
		return nil, err
	}
	now := b.now()
	s := &Subscription{
		broker: b, id: o.ID, form: formOf(&o), waker: o.Waker, owner: o.Owner, audience: o.Audience, looks: o.Looks,
	}
	if s.waker == nil {
		s.waker = make(wakeChan, 1)
	}
	b.looked = 0
	var fresh []*position
	for _, name := range o.Channels {
		var err error
		if fresh, err = b.addName(s, name, fresh); err != nil {
			b.removeReaders(fresh)
			return nil, err
		}
	}
	b.subs[s] = struct{}{}
	b.addSession(s.id)
	b.begin(s, fresh, b.resolve(o.Start, fresh, now))
	a.looked += b.looked
	b.markClosed(fresh, now)
	return s, nil
}

// maySubscribe is the error of a Subscribe that looks at no name.
func (b *Broker) maySubscribe(o *SubscribeOptions) error {
	switch {
	case b.closed:
		return ErrClosed
	case len(o.Channels) == 0:
		return ErrNoChannels
	case len(b.subs) >= b.cfg.MaxSubscriptions:
		return ErrTooManySubscriptions
	}
	return b.mayBegin(o.Start)
}

// Join adds a channel or a pattern; it does nothing if that is read already. Events
// from before the join come first, without an id line, because the client's cursor
// is above them. A name that selects channels which are read already begins at the
// cursor, whatever start says, so that nothing comes twice. The reader is told by
// Batch.Changes.
func (s *Subscription) Join(name string, start Start) error {
	b := s.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	a := ahead{looks: s.looks}
	defer a.end(b)
	state := func() (done bool, err error) {
		if _, open := b.subs[s]; !open || b.closed {
			return true, ErrClosed
		}
		return slices.Contains(s.names, name), nil
	}
	overlap := func() bool {
		return slices.ContainsFunc(s.names, func(other string) bool { return channel.Overlap(name, other) })
	}
	if done, err := state(); done {
		return err
	}
	if err := b.mayBegin(start); err != nil {
		return err
	}
	if err := a.may(); err != nil {
		return err
	}
	begin := resolved{kind: startAfter, after: s.Cursor()}
	if !overlap() {
		begin = b.lookUp(start, nil)
	}
	if err := b.refillBeginning(&a, []string{name}, begin, s.owner); err != nil {
		return err
	}
	if done, err := state(); done { // again: it may have left, or ended
		return err
	}
	now, overlaps := b.now(), overlap()
	b.looked = 0
	fresh, err := b.addName(s, name, nil)
	if err != nil {
		b.removeReaders(fresh)
		return err
	}
	if overlaps {
		b.joinHere(s, fresh, now)
	} else {
		b.join(s, fresh, b.resolve(start, fresh, now))
	}
	a.looked += b.looked
	b.markClosed(fresh, now)
	s.signal()
	return nil
}

// Leave removes a channel or a pattern, and reports whether it was read. Events that
// other names of the subscription select still come, or a gap does. The reader is told
// by Batch.Changes.
func (s *Subscription) Leave(name string) bool {
	b := s.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(s.names, name)
	if i < 0 {
		return false
	}
	read := s.names[i] // not name, which may be a part of a request
	s.names = slices.Delete(s.names, i, i+1)
	s.mu.Lock()
	s.noteLeft(read)
	var left []*position
	s.positions = slices.DeleteFunc(s.positions, func(p *position) bool {
		drop := !s.reads(p.feed.name)
		if drop {
			left = append(left, p)
		}
		return drop
	})
	if s.values != nil {
		for _, w := range s.values.snapshots {
			w.left = true
		}
	}
	lacks := func(p *position) bool { return p.joined != nil && p.joined.lacks.After(s.cursor) }
	if s.gap == nil && slices.ContainsFunc(s.positions, lacks) {
		b.announceGap(s)
	}
	s.mu.Unlock()
	b.removeReaders(left)
	s.signal()
	return true
}

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() {
	b := s.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, open := b.subs[s]; !open {
		return
	}
	delete(b.subs, s)
	b.wave.remove(s)
	b.removeSession(s.id)
	s.mu.Lock()
	positions := s.positions
	s.positions, s.changes, s.closed = nil, nil, true
	if s.values != nil {
		s.values.snapshots = nil // and not what Opening says: it tells what the client has got
	}
	s.mu.Unlock()
	b.removeReaders(positions)
	s.signal()
}

// Channels are the names and patterns that the subscription reads.
func (s *Subscription) Channels() []string {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	return slices.Clone(s.names)
}

// addName adds name to s, and appends to fresh the new positions, which have no place yet.
// The caller must remove them if there is an error.
func (b *Broker) addName(s *Subscription, name string, fresh []*position) ([]*position, error) {
	if slices.Contains(s.names, name) {
		return fresh, nil
	}
	if len(s.names) >= b.cfg.MaxSubscriptionChannels {
		return fresh, fmt.Errorf("%w: at most %d are allowed", ErrTooManySubscriptionChannels, b.cfg.MaxSubscriptionChannels)
	}
	if channel.IsPattern(name) && s.patterns() >= b.cfg.MaxSubscriptionPatterns {
		return fresh, fmt.Errorf("%w: at most %d are allowed", ErrTooManySubscriptionPatterns, b.cfg.MaxSubscriptionPatterns)
	}
	feed, err := b.feedOf(name, s.owner)
	if err != nil {
		return fresh, err
	}
	if len(feed.readers) >= b.cfg.MaxSubscribers {
		b.forget(feed, b.now())
		return fresh, fmt.Errorf("%w %q", ErrTooManySubscribers, name)
	}
	s.names = append(s.names, feed.name) // not name, which may be a part of a request
	fresh = append(fresh, b.addReader(s, feed))
	if feed.pattern == nil {
		for beneath := range channel.Reaching(name) {
			if other := b.feeds[beneath]; other != nil && !s.has(other) && !hasFeed(fresh, other) {
				fresh = append(fresh, b.addReader(s, other))
			}
		}
	}
	return fresh, nil
}

// patterns is how many of s's names are patterns.
func (s *Subscription) patterns() (n int) {
	for _, name := range s.names {
		if channel.IsPattern(name) {
			n++
		}
	}
	return n
}

// feedOf is the feed that a name or a pattern is read from.
func (b *Broker) feedOf(name string, id Owner) (*feed, error) {
	switch {
	case b.patterns[name] != nil:
		return b.patterns[name], nil
	case channel.IsPattern(name):
		p, err := channel.ParsePattern(strings.Clone(name)) // it may be a part of a request
		if err != nil {
			return nil, err
		}
		return b.addPattern(p, id)
	case channel.IsBeneath(name):
		return nil, fmt.Errorf("%w: %q: %w", channel.ErrName, name, ErrBeneath)
	}
	if err := channel.Check(name); err != nil {
		return nil, err
	}
	if feed := b.feeds[name]; feed != nil {
		return feed, nil
	}
	return b.keepName(name, id)
}

// addReader adds a position of s to the readers of a feed.
func (b *Broker) addReader(s *Subscription, feed *feed) *position {
	p := &position{sub: s, feed: feed, index: len(feed.readers)}
	feed.readers, feed.unread = append(feed.readers, p), 0
	b.countReaders(feed)
	if feed.pattern == nil {
		b.removeIdle(feed)
		b.setFull()
	} else {
		b.unread.remove(feed)
	}
	return p
}

// removeReaders removes positions from the readers of their feeds.
func (b *Broker) removeReaders(positions []*position) {
	for _, p := range positions {
		feed := p.feed
		last := len(feed.readers) - 1
		feed.readers[p.index] = feed.readers[last]
		feed.readers[p.index].index = p.index
		feed.readers[last] = nil
		feed.readers = feed.readers[:last]
		b.countReaders(feed)
		if feed.of != nil {
			if last == 0 {
				b.removeStateFeed(feed)
			}
			continue
		}
		switch {
		case last > 0 && feed.table != inChannels && feed.owner != nil && feed.owner.id == p.sub.owner:
			b.move(feed, feed.table, feed.readers[0].sub.owner) // they keep it now
		case last == 0 && feed.table == inChannels:
			b.pushIdle(feed)
			b.setFull()
		}
		b.forget(feed, b.now())
	}
}

// has reports whether s has a position in a feed.
func (s *Subscription) has(feed *feed) bool { return hasFeed(s.positions, feed) }

// hasFeed reports whether one of positions is in a feed.
func hasFeed(positions []*position, feed *feed) bool {
	return slices.ContainsFunc(positions, func(p *position) bool { return p.feed == feed })
}

// reads reports whether a feed of that name serves one of s's channels.
func (s *Subscription) reads(name string) bool {
	if slices.Contains(s.names, name) {
		return true
	}
	return channel.IsBeneath(name) && slices.ContainsFunc(s.names, func(other string) bool {
		return !channel.IsPattern(other) && channel.Reaches(name, other)
	})
}
