package broker

import (
	"errors"
	"maps"
	"time"
)

// The model's bounds: histories that get others at run time, or are switched
// off and on; and, with some seeds, channels for which there is no room, where a
// refusal leaves all as it was.

func (m *model) config() Config {
	c := DefaultConfig()
	c.History = Policy{Events: 20 + m.rng.IntN(30), Age: 20 * time.Second, Bytes: 64 << 10}
	c.Rules = []Rule{
		{Pattern: "off/**", Policy: Policy{Bytes: 8 << 10}, State: StatePolicy{Key: "k", Format: FormatJSONPatch}},
		{Pattern: "few/**", Policy: Policy{Events: 1 + m.rng.IntN(3), Age: time.Minute, Bytes: 8 << 10}, State: StatePolicy{Key: "\"<"}},
		{Pattern: "a/**", Policy: c.History, State: StatePolicy{Format: FormatMergePatch}},
		{Pattern: "b/**", Policy: c.History, State: StatePolicy{Format: FormatJSONPatch}},
		{Pattern: "big/**", Policy: Policy{Events: Unlimited, Bytes: 4 << 10}},
	}
	for i := range c.Rules {
		p := &c.Rules[i].Policy
		switch m.rng.IntN(6) {
		case 0:
			p.Events = 0
		case 1:
			p.Events, p.Age = 1+m.rng.IntN(5), 5*time.Second
		case 2:
			p.Events, p.Age = 100, time.Minute
		}
	}
	if m.rng.IntN(6) == 0 {
		c.History.Events = 0
	}
	c.MaxBytes = (24 + m.rng.IntN(200)) << 10
	if m.ample {
		c.Rules = append(c.Rules, Rule{Pattern: "**", Policy: c.History})
		c.History = Policy{Events: 100, Age: time.Hour, Bytes: 8 << 20}
		c.MaxBytes = 64 << 20
	}
	if m.few {
		c.MaxChannels = 3 + m.rng.IntN(10)
	}
	return c
}

// configure changes the bounds at run time.
func (m *model) configure() {
	old := m.cfg
	m.cfg = m.config()
	for _, name := range modelChannels {
		if (old.historyOf(name).Events == 0) != (m.cfg.historyOf(name).Events == 0) {
			m.met.switched++
			break
		}
	}
	if err := m.b.Configure(m.cfg); err != nil {
		m.t.Error(err)
	}
}

func (c *Config) historyOf(name string) Policy {
	for _, r := range c.Rules {
		if naiveMatch(r.Pattern, name) {
			return r.Policy
		}
	}
	return c.History
}

// bounded checks that no channel keeps more events than it may by now, and that
// there are no more channels than there may be, except those that were there before.
func (m *model) bounded() {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for name, f := range m.b.feeds {
		if n, most := f.count(), m.cfg.historyOf(name).Events; n > most {
			m.t.Errorf("%s keeps %d events, at most %d are allowed", name, n, most)
		}
	}
	// A name that is read becomes a channel also where there is no room for one.
	m.channels = max(m.channels, m.cfg.MaxChannels)
	if n := len(m.b.feeds); n > 2*m.channels {
		m.t.Errorf("there are %d channels and names, at most twice %d are allowed", n, m.channels)
	}
}

// modelStanding is what a refusal has to leave as it was.
type modelStanding struct {
	head  ID
	stats Stats
	read  map[string]int // by how many
	full  bool           // each channel is read, and there may be no more
	names bool           // there may be no more names that are only read
}

func (m *model) standing() modelStanding {
	if !m.few {
		return modelStanding{}
	}
	st := modelStanding{head: m.b.Head(), stats: m.b.Stats(), read: map[string]int{}}
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for name, f := range m.b.feeds {
		if len(f.readers) > 0 {
			st.read[name] = len(f.readers)
		}
	}
	channels, names, idle := 0, 0, 0
	for _, f := range m.b.feeds {
		if age := uint64(f.policy.Age / time.Millisecond); len(f.readers) == 0 && (f.count() == 0 || age > 0 && f.newest().Ms+age <= m.b.now()) {
			st.stats.Channels-- // it may be dropped at any time: it was purged, switched off, or is too old
		}
		switch {
		case f.table == inNames:
			names++
		case len(f.readers) > 0:
			channels++
		default:
			channels++
			idle++
		}
	}
	for _, p := range m.b.patterns {
		if p.table == inNames {
			names++
		}
	}
	st.full = idle == 0 && channels >= m.cfg.MaxChannels
	st.names = names >= m.cfg.MaxChannels || names+channels >= 2*m.cfg.MaxChannels
	for name, p := range m.b.patterns {
		if len(p.readers) > 0 {
			st.read[name] = len(p.readers)
		}
	}
	return st
}

// refused reports whether err is that there is no room for a channel, and
// checks that there was none and that all is as it was. Of several names that
// are asked for at once some may have had room.
func (m *model) refused(what string, err error, was modelStanding, several bool) bool {
	if !errors.Is(err, ErrTooManyChannels) {
		return false
	}
	if m.met.refused == nil {
		m.met.refused = map[string]int{}
	}
	m.met.refused[what]++
	is := m.standing()
	is.stats.Patterns, is.stats.Bytes = was.stats.Patterns, was.stats.Bytes // unread ones may be dropped
	if allowed := what == "publish" && was.full || what != "publish" && was.names; !several && !allowed {
		m.t.Errorf("%s: refused, and there was room: %+v", what, was)
	}
	if is.head != was.head || is.stats != was.stats || !maps.Equal(is.read, was.read) {
		m.t.Errorf("refused, and what was %+v is %+v", was, is)
	}
	return true
}

// admitted checks that there was room for what was published.
func (m *model) admitted(was modelStanding, ops []Op) {
	for i := range ops {
		if was.full && was.read[ops[i].Channel] == 0 {
			m.t.Errorf("there was no room for %s: %+v", ops[i].Channel, was)
		}
	}
}
