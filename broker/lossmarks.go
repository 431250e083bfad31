package broker

import (
	"hash/maphash"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// lossMarks remember, for channels that were dropped from memory, the newest id
// that each can no longer replay: its loss mark. A reader that comes back with an
// older cursor has a gap.
//
// They are bounded: the channels that were dropped last are known by name, all
// others share a mark with those of the same hash, one with those of the same first
// segment, and one with those that begin with the same bytes, for each number of bytes up
// to maxStart. A shared mark may announce a gap too many, never one too few. First segments
// and beginnings are what rules tell apart: who may publish to chat/**, or to match.*, has
// channels dropped and dropped there, and that is no gap to the readers of orders/7.
type lossMarks struct {
	seed    maphash.Seed
	byHash  [4096]ID
	byFirst [1024]ID          // by the hash of the first segment, names beneath apart
	byStart [maxStart][256]ID // by the number of the first bytes, and their hash

	byName map[string]ID
	names  []string // of byName, a ring once it is full
	next   int      // in names: the next one to be forgotten
	rest   ID       // the newest mark of the forgotten names
	all    ID       // what may have been lost of any name, known or not
}

const (
	maxMarkedNames = 4096 // bounds the marks that are known by name
	maxStart       = 16   // of how many first bytes names share a mark
)

func newLossMarks() lossMarks {
	return lossMarks{seed: maphash.MakeSeed(), byName: map[string]ID{}}
}

// of is the mark of a channel, or of a name beneath; zero if it has none.
func (m *lossMarks) of(name string) ID {
	if id, ok := m.byName[name]; ok {
		return id
	}
	// Its name may be forgotten: then its mark is not above any of these.
	mark := earlier(*m.shared(name), *m.first(name))
	for n := 1; n <= min(len(name), maxStart); n++ {
		mark = earlier(mark, *m.start(name[:n]))
	}
	return earlier(latest(m.rest, m.all), mark)
}

func earlier(a, b ID) ID {
	if a.After(b) {
		return b
	}
	return a
}

// shared is the mark of all names with the hash of name.
func (m *lossMarks) shared(name string) *ID {
	return &m.byHash[maphash.String(m.seed, name)%uint64(len(m.byHash))]
}

// first is the mark of all names with the first segment of name. Of names beneath it is
// another one: every channel is reached by some, and few are published to.
func (m *lossMarks) first(name string) *ID {
	if i := strings.IndexByte(name, '/'); i >= 0 {
		if channel.IsBeneath(name) {
			i++ // with the slash
		}
		name = name[:i]
	}
	return &m.byFirst[maphash.String(m.seed, name)%uint64(len(m.byFirst))]
}

// start is the mark of all names that begin with certain bytes, at most maxStart.
func (m *lossMarks) start(begin string) *ID {
	marks := &m.byStart[len(begin)-1]
	return &marks[maphash.String(m.seed, begin)%uint64(len(marks))]
}

// forgotten is not below the mark of any forgotten name that p selects.
func (m *lossMarks) forgotten(p *channel.Pattern) ID {
	mark := m.rest
	if prefix := p.Prefix(); prefix != "" {
		mark = earlier(mark, latest(*m.first(prefix), *m.first(prefix + "/")))
	} else if begin, _, wild := strings.Cut(p.String(), "*"); wild { // so begins all that it selects
		for n := 1; n <= min(len(begin), maxStart); n++ {
			mark = earlier(mark, *m.start(begin[:n]))
		}
	}
	return latest(mark, m.all)
}

// matching is the newest mark of the channels that p selects.
func (m *lossMarks) matching(p *channel.Pattern) ID {
	mark := m.forgotten(p)
	for name, id := range m.byName {
		if id.After(mark) && p.Match(name) {
			mark = id
		}
	}
	return mark
}

// raise sets the mark of a name to id, unless it is above already.
func (m *lossMarks) raise(name string, id ID) {
	m.raiseShared(name, id)
	known, ok := m.byName[name]
	if ok && !id.After(known) || id.IsZero() {
		return
	}
	name = strings.Clone(name) // it may be a part of a request
	switch {
	case ok:
	case len(m.names) < maxMarkedNames:
		m.names = append(m.names, name)
	default:
		oldest := m.names[m.next]
		if m.byName[oldest].After(m.rest) {
			m.rest = m.byName[oldest]
		}
		delete(m.byName, oldest)
		m.names[m.next] = name
		m.next = (m.next + 1) % maxMarkedNames
	}
	m.byName[name] = id
}

// raiseShared raises the marks that a name has in common with others.
func (m *lossMarks) raiseShared(name string, id ID) {
	up := func(mark *ID) { *mark = latest(*mark, id) }
	up(m.shared(name))
	up(m.first(name))
	for n := 1; n <= min(len(name), maxStart); n++ {
		up(m.start(name[:n]))
	}
}

// raiseOlder is raise for marks that come in any order. A name is not known if that would
// have another one forgotten: of a name that is forgotten nobody knows the newest mark.
func (m *lossMarks) raiseOlder(name string, id ID) {
	if _, known := m.byName[name]; known || len(m.names) < maxMarkedNames {
		m.raise(name, id)
		return
	}
	m.raiseShared(name, id)
	m.rest = latest(m.rest, id)
}
