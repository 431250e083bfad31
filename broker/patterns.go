package broker

import (
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// Making and dropping the feeds of patterns. All of it under Broker.mu.

// addPattern adds the feed of a pattern, empty: it is refilled for the first
// reader that begins earlier than now.
func (b *Broker) addPattern(p channel.Pattern, id Owner) (*feed, error) {
	t := inPatterns
	if p.IsSimple() {
		t = inNames
	}
	if err := b.roomFor(t, id); err != nil {
		return nil, err
	}
	f := newFeed(p.String(), b.cfg.History)
	f.pattern = &p
	f.numberFrom(1 << 62) // what it is refilled with is numbered below
	f.complete = b.issued.last
	f.trimmed = b.issued.last
	b.patterns[f.name] = f
	b.prefixes.add(f)
	b.enter(f, t, id)
	return f, nil
}

// prefixIndex finds patterns by their segments before the first wildcard: of many
// patterns an event is compared with few.
type prefixIndex struct {
	byPrefix map[string][]*feed
	ordered  nameIndex // of byPrefix
}

func (x *prefixIndex) add(f *feed) {
	if x.byPrefix == nil {
		x.byPrefix = map[string][]*feed{}
	}
	prefix := f.pattern.Prefix()
	if len(x.byPrefix[prefix]) == 0 {
		x.ordered.add(prefix)
	}
	x.byPrefix[prefix] = append(x.byPrefix[prefix], f)
}

func (x *prefixIndex) remove(f *feed) {
	prefix := f.pattern.Prefix()
	left := slices.DeleteFunc(x.byPrefix[prefix], func(other *feed) bool { return other == f })
	x.byPrefix[prefix] = left
	if len(left) == 0 {
		delete(x.byPrefix, prefix)
		x.ordered.remove(prefix)
	}
}

// eachPattern calls do for the patterns that select name.
func (b *Broker) eachPattern(name string, do func(p *feed)) {
	if len(b.patterns) == 0 {
		return
	}
	try := func(prefix string) {
		for _, p := range b.prefixes.byPrefix[prefix] {
			if p.pattern.Match(name) {
				do(p)
			}
		}
	}
	try("")
	for i := range len(name) {
		if name[i] == '/' {
			try(name[:i])
		}
	}
	if !channel.IsBeneath(name) {
		try(name)
		return
	}
	for prefix := range b.prefixes.ordered.with(name) { // it may reach channels of these
		try(prefix)
	}
}

// eachCandidate calls do for the channels and names beneath that a pattern may select. After
// each step of so many it calls pause, which may release Broker.mu meanwhile, and ends with
// false.
func (b *Broker) eachCandidate(p *channel.Pattern, step int, pause func() bool, do func(f *feed)) {
	prefix, n := p.Prefix(), 0
	try := func(name string) {
		n++
		if f := b.feeds[name]; f != nil {
			do(f)
		}
	}
	walk := func(begin string) {
		for c := b.names.seek(begin); ; {
			name, ok := c.name()
			switch {
			case !ok || !strings.HasPrefix(name, begin):
				return
			case n < step:
				try(name)
				c.at++
			default:
				if n = 0; !pause() {
					return
				}
				c = b.names.seek(name) // it, or what sorts after it by now
			}
		}
	}
	if prefix == "" {
		begin, _, _ := strings.Cut(p.String(), "*")
		walk(begin)
		return
	}
	try(prefix)
	for name := range channel.Reaching(prefix) {
		if name != prefix+"/" {
			try(name)
		}
	}
	walk(prefix + "/")
}

// fitting is the position after which what all stretches have fits in size bytes, by whole
// segments. It reorders them.
func fitting(all []stretch, size int) ID {
	slices.SortFunc(all, func(x, y stretch) int { return y.before.Compare(x.before) })
	for i := range all {
		if size -= all[i].charge; size < 0 {
			return all[i].before
		}
	}
	return ID{}
}

// unreadFor is how long a pattern without readers is kept, for those that were cut
// off and come back: to refill it takes long where there are many channels.
const unreadFor = 10 * time.Second

func (b *Broker) removePattern(p *feed) {
	b.discharge(p)
	b.unread.remove(p)
	b.leave(p)
	b.prefixes.remove(p)
	delete(b.patterns, p.name)
}

// dropUnread removes a pattern without readers from a table, if there is one: one of
// an owner, unless that is nil.
func (b *Broker) dropUnread(t table, own *owner) bool {
	for p := b.unread.first; p != nil; p = b.unread.next(p) {
		if p.table == t && (own == nil || p.owner == own) {
			b.removePattern(p)
			return true
		}
	}
	return false
}
