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
// others share a mark with those of the same hash. A shared mark may announce a
// gap too many, never one too few.
type lossMarks struct {
	seed   maphash.Seed
	byHash [4096]ID

	byName map[string]ID
	names  []string // of byName, a ring once it is full
	next   int      // in names: the next one to be forgotten
	rest   ID       // the newest mark of the forgotten names
}

// maxMarkedNames bounds the marks that are known by name.
const maxMarkedNames = 4096

func newLossMarks() lossMarks {
	return lossMarks{seed: maphash.MakeSeed(), byName: map[string]ID{}}
}

// of is the mark of a channel, or of a name beneath; zero if it has none.
func (m *lossMarks) of(name string) ID {
	if id, ok := m.byName[name]; ok {
		return id
	}
	// Its name may be forgotten: then its mark is not above either of these.
	if shared := *m.shared(name); m.rest.After(shared) {
		return shared
	}
	return m.rest
}

// shared is the mark of all names with the hash of name.
func (m *lossMarks) shared(name string) *ID {
	return &m.byHash[maphash.String(m.seed, name)%uint64(len(m.byHash))]
}

// matching is the newest mark of the channels that p selects.
func (m *lossMarks) matching(p *channel.Pattern) ID {
	mark := m.rest
	for name, id := range m.byName {
		if id.After(mark) && p.Match(name) {
			mark = id
		}
	}
	return mark
}

// raise sets the mark of a name to id, unless it is above already.
func (m *lossMarks) raise(name string, id ID) {
	if mark := m.shared(name); id.After(*mark) {
		*mark = id
	}
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
