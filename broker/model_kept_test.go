package broker

import (
	"regexp"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// What the model reads off the broker: which names take in which channels, and
// what is kept of them.

// naiveMatch decides by regular expressions, and for a name beneath by trying
// channels that lie there.
func naiveMatch(pattern, name string) bool {
	key := [2]string{pattern, name}
	matches, ok := naiveMatches[key]
	if !ok {
		matches = naiveMatchUncached(pattern, name)
		naiveMatches[key] = matches
	}
	return matches
}

var naiveMatches = map[[2]string]bool{}

func naiveMatchUncached(pattern, name string) bool {
	expr := regexp.QuoteMeta(pattern)
	switch {
	case expr == `\*\*`:
		return true
	case strings.HasSuffix(expr, `/\*\*`):
		expr = strings.TrimSuffix(expr, `/\*\*`) + `(/.*)?`
	}
	re := regexp.MustCompile("^" + strings.ReplaceAll(expr, `\*`, `[^/]*`) + "$")
	prefix, beneath := strings.CutSuffix(name, "/")
	if !beneath || re.MatchString(prefix) {
		return re.MatchString(prefix)
	}
	for _, tail := range []string{"x", "y", "1", "2", "x/1", "x/x"} {
		if re.MatchString(prefix + "/" + tail) {
			return true
		}
	}
	return false
}

// overlapping reports whether an event may reach a reader by names of both.
func overlapping(some, others []string) bool {
	return slices.ContainsFunc(modelChannels, func(ch string) bool {
		matches := func(name string) bool { return naiveMatch(name, ch) }
		return slices.ContainsFunc(some, matches) && slices.ContainsFunc(others, matches)
	})
}

// anyOverlap reports whether an event may reach a reader by two of its names.
func anyOverlap(names []string) bool {
	return slices.ContainsFunc(modelTargets, func(ch string) bool {
		n := 0
		for _, name := range names {
			if naiveMatch(name, ch) {
				n++
			}
		}
		return n > 1
	})
}

// kept are the entries that a subscriber to name would have replayed: those in
// memory, but for what channels got while they had no history.
func (m *model) kept(name string) map[ID]bool {
	ids := map[ID]bool{}
	m.inMemory(name, func(e *entry) {
		if !m.live[e.id] {
			ids[e.id] = true
		}
	})
	return ids
}

// keptByChannels are the entries that the channels keep which a pattern matches.
func (m *model) keptByChannels(pattern string) map[ID]bool {
	ids := map[ID]bool{}
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for _, f := range m.b.feeds {
		if naiveMatch(pattern, f.name) {
			for e := range f.all() {
				ids[e.id] = !m.live[e.id]
			}
		}
	}
	return ids
}

// inMemory calls do for what the histories that name is read from have. That of
// a pattern has, for a while, what channels without a history got.
func (m *model) inMemory(name string, do func(*entry)) {
	each := func(f *feed) {
		for e := range f.all() {
			do(e)
		}
	}
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	if f := m.b.patterns[name]; f != nil {
		each(f)
		return
	}
	for _, f := range m.b.feeds {
		if naiveMatch(name, f.name) {
			each(f)
		}
	}
}

// keptFor is kept for all names of a reader.
func (m *model) keptFor(names []string) map[ID]bool {
	all := map[ID]bool{}
	for _, name := range names {
		for id := range m.kept(name) {
			all[id] = true
		}
	}
	return all
}

// keptByAll decides whether an event is kept by every name that r reads it by.
// A pattern that was rebuilt since r looked does not count: it may keep again
// what r was told is lost.
func (m *model) keptByAll(r *modelReader) func(*modelEntry) bool {
	kept := map[string]map[ID]bool{}
	for _, name := range r.names {
		if live, ok := r.lives[name]; !ok || live == m.b.liveOf(name) {
			kept[name] = m.kept(name)
		}
	}
	return func(e *modelEntry) bool {
		covered := false
		for _, name := range r.names {
			if naiveMatch(name, e.channel) {
				if covered = kept[name][e.id]; !covered {
					return false
				}
			}
		}
		return covered
	}
}

// look notes which life each of r's patterns is in.
func (r *modelReader) look(b *Broker) {
	r.lives = map[string]*chain{}
	for _, name := range r.names {
		if channel.IsPattern(name) {
			r.lives[name] = b.liveOf(name)
		}
	}
}

func (b *Broker) liveOf(pattern string) *chain {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.patterns[pattern]; p != nil {
		return p.chain.Load()
	}
	return nil
}
