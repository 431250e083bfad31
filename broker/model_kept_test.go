package broker

import (
	"maps"
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

// kept are the entries that a subscriber to name must have replayed: what the channels
// keep, but for what they got while they had no history. Only where memory is tight may
// a pattern have lost some of them to its own bounds.
func (m *model) kept(name string) map[ID]bool {
	ids := map[ID]bool{}
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for _, f := range m.b.feeds {
		if naiveMatch(name, f.name) {
			for e := range f.all() {
				if !m.live[e.id] {
					ids[e.id] = true
				}
			}
		}
	}
	if f := m.b.patterns[name]; f != nil && !m.ample {
		here := map[ID]bool{}
		for e := range f.all() {
			here[e.id] = true
		}
		maps.DeleteFunc(ids, func(id ID, _ bool) bool { return !here[id] })
	}
	return ids
}

// held are the entries that a subscriber to name has replayed: those in kept, and what a
// pattern has longer than its channels.
func (m *model) held(name string) map[ID]bool {
	ids := m.kept(name)
	m.inMemory(name, func(e *entry) {
		if !m.live[e.id] {
			ids[e.id] = true
		}
	})
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

// keptByAll decides whether an event is kept by every name that r reads it by. Where
// memory is tight, a pattern that was emptied or refilled since r looked does not count: it
// may have again what r was told is lost.
func (m *model) keptByAll(r *modelReader) func(*modelEntry) bool {
	kept := map[string]map[ID]bool{}
	for _, name := range r.names {
		if live, ok := r.lives[name]; m.ample || !ok || live == m.lifeOf(name) {
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
func (r *modelReader) look(m *model) {
	r.lives = map[string]int{}
	for _, name := range r.names {
		if channel.IsPattern(name) {
			r.lives[name] = m.lifeOf(name)
		}
	}
}

func (b *Broker) patternOf(name string) *feed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.patterns[name]
}

func (m *model) lifeOf(pattern string) int {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	if p := m.b.patterns[pattern]; p != nil {
		return m.look(pattern, p).life
	}
	return 0
}
