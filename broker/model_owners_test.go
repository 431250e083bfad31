package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// The model of shares: greedy owners publish, subscribe, set values and use keys at
// random and without end, far beyond their shares; an honest owner does a little of
// each. After every step the accounts are those of the tables, no owner has more than
// its share, and the honest one has all that it ever made, and is never refused.

type ownersModel struct {
	t    *testing.T
	rng  *rand.Rand
	b    *Broker
	open map[Owner][]*Subscription

	channels map[string]int    // of the honest owner: events
	values   map[string]string // of the honest owner
	refused  int
}

const (
	greedyOwners  = 4
	honest        = Owner(100)
	honestName    = "honest/%d"
	ownersSteps   = 6_000
	ownersChannel = 200
)

func TestAnHonestOwnerLosesNothingToAnothersShare(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, func(c *Config) {
					c.MaxChannels, c.MaxPatterns, c.MaxStates = ownersChannel, 50, 100
					c.MaxStateBytes, c.MaxBytes = 20_000, 512<<10
					c.MaxSubscriptionPatterns = 50
					c.History.Age = 0
				})
				m := &ownersModel{
					t: t, rng: rand.New(rand.NewPCG(seed, 3)), b: b,
					open: map[Owner][]*Subscription{}, channels: map[string]int{}, values: map[string]string{},
				}
				for i := range ownersSteps {
					if m.greedy(); i%10 == 0 {
						m.honest()
					}
					if i%50 == 0 {
						m.check()
						time.Sleep(time.Second)
					}
					if t.Failed() {
						return
					}
				}
				if m.refused < ownersSteps/20 {
					t.Errorf("the greedy were refused %d times: the shares were not tested", m.refused)
				}
				for _, subs := range m.open {
					for _, s := range subs {
						s.Close()
					}
				}
				time.Sleep(time.Hour)
				for name := range m.values {
					publishAll(t, b, Op{Kind: KindState, Channel: name, State: &StateOp{}})
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				for id, own := range b.owners.byID {
					if own.values.count == 0 && own.held == [tables]int{} {
						t.Errorf("the owner %d has nothing and is still there: %+v", id, own)
					}
				}
			})
		})
	}
}

// greedy is one step of some owner that takes what it gets.
func (m *ownersModel) greedy() {
	id := Owner(1 + m.rng.IntN(greedyOwners))
	name := fmt.Sprintf("greedy/%d/%d", id, m.rng.IntN(1000))
	switch m.rng.IntN(7) {
	case 0, 1:
		m.publish(Op{Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte(strings.Repeat("x", m.rng.IntN(12_000)))}, Owner: id})
	case 2:
		m.publish(Op{Kind: KindState, Channel: name, State: &StateOp{Value: []byte(`"` + strings.Repeat("v", m.rng.IntN(600)) + `"`)}, Owner: id})
	case 3:
		m.publish(Op{Kind: KindState, Channel: name, State: &StateOp{}, Owner: id})
	case 4:
		ops := make([]Op, 5)
		for i := range ops {
			ops[i] = Op{Kind: KindState, Channel: fmt.Sprintf("%s/%d", name, i), State: &StateOp{Value: []byte("1")}, Owner: id, Key: Key{Key: name}}
		}
		m.publish(ops...)
	case 5:
		names := []string{name, name + "/x", fmt.Sprintf("greedy/%d/*x", m.rng.IntN(2000)), name + "/y/**", fmt.Sprintf("*%d", m.rng.IntN(2000))}
		s, err := m.b.Subscribe(SubscribeOptions{Channels: names[m.rng.IntN(3):][:1+m.rng.IntN(2)], Owner: id})
		if err != nil {
			m.refused++
			return
		}
		m.open[id] = append(m.open[id], s)
	case 6:
		if subs := m.open[id]; len(subs) > 0 {
			i := m.rng.IntN(len(subs))
			subs[i].Close()
			m.open[id] = append(subs[:i], subs[i+1:]...)
		}
	}
}

func (m *ownersModel) publish(ops ...Op) {
	_, err := m.b.Publish(context.Background(), ops)
	for _, want := range []error{ErrShareOfChannels, ErrShareOfValues, ErrShareOfKeys} {
		if errors.Is(err, want) {
			m.refused++
			return
		}
	}
	if err != nil {
		m.t.Error(err)
	}
}

// honest is one step of the honest owner, who stays far below its share.
func (m *ownersModel) honest() {
	name := fmt.Sprintf(honestName, m.rng.IntN(8))
	for _, op := range []Op{
		{Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte("x")}, Key: Key{Identity: "h", Key: fmt.Sprint(m.rng.Uint64())}},
		{Kind: KindState, Channel: name, State: &StateOp{Value: []byte(fmt.Sprint(m.rng.IntN(9)))}},
	} {
		op.Owner = honest
		r, err := m.b.Publish(context.Background(), []Op{op})
		if err == nil {
			err = r[0].Err
		}
		if err != nil {
			m.t.Errorf("the honest owner is refused: %v", err)
		}
		if op.State != nil {
			m.values[name] = string(op.State.Value)
		} else {
			m.channels[name]++
		}
	}
	s, err := m.b.Subscribe(SubscribeOptions{Channels: []string{name, name + "/new", name + "/**", "hon*/" + name[7:]}, Owner: honest})
	if err != nil {
		m.t.Errorf("the honest owner is refused: %v", err)
		return
	}
	s.Close()
}

func (m *ownersModel) check() {
	for name, n := range m.channels {
		if info, _ := m.b.Channel(name); info.Events != min(n, 1000) {
			m.t.Errorf("%s keeps %d events of %d", name, info.Events, n)
		}
	}
	for name, want := range m.values {
		if got := m.b.State(name); string(got.Value) != want {
			m.t.Errorf("%s has the value %q, want %q", name, got.Value, want)
		}
	}
	checkOwners(m.t, m.b)
}

// checkOwners checks the accounts of owners against the tables.
func checkOwners(t *testing.T, b *Broker) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	type sums struct {
		held  [tables]int
		bytes int
		value valueCount
	}
	all, by := sums{}, map[Owner]*sums{}
	for id := range b.owners.byID {
		by[id] = &sums{}
	}
	count := func(f *feed) {
		if f.of == nil {
			all.held[f.table]++
		}
		all.bytes += f.charged
		if own := f.owner; own != nil {
			if f.of == nil {
				by[own.id].held[f.table]++
			}
			by[own.id].bytes += f.charged
		}
		if idle := f.of == nil && f.pattern == nil && len(f.readers) == 0; f.of == nil && f.pattern == nil && (f.idle[0].in != idle || f.idle[1].in != (idle && f.owner != nil)) {
			t.Errorf("%s has %d readers, and its places among those without are %+v", f.name, len(f.readers), f.idle)
		}
	}
	for _, feeds := range []map[string]*feed{b.feeds, b.patterns} {
		for _, f := range feeds {
			count(f)
			if f.state != nil {
				count(f.state)
			}
		}
	}
	for _, c := range b.states.slots {
		if c != nil && c.owner != nil {
			by[c.owner.id].value.add(valueCount{1, rowBytes(c.name, c.cur.Load().value)}, 1)
		}
	}
	if all.held != b.held || all.bytes != b.bytes {
		t.Errorf("the tables have %+v, and counted are %v and %d bytes", all, b.held, b.bytes)
	}
	full := 0
	for id, own := range b.owners.byID {
		if got := (sums{own.held, own.bytes, own.values}); got != *by[id] {
			t.Errorf("the owner %d has %+v, and counted is %+v", id, *by[id], got)
		}
		for table := range tables {
			if most := b.share(b.boundOf(table)); own.held[table] > most {
				t.Errorf("the owner %d has %d in table %d, its share is %d", id, own.held[table], table, most)
			}
		}
		if own.values.count > b.share(b.cfg.MaxStates) || own.values.bytes > b.share(b.cfg.MaxStateBytes) || own.coming != (valueCount{}) {
			t.Errorf("the owner %d has %+v values, and %+v are to come", id, own.values, own.coming)
		}
		if b.overShare(own, inChannels) {
			full++
		}
		if b.owners.byBytes[own.heap] != own || own.bytes > b.owners.byBytes[0].bytes {
			t.Errorf("the owner %d is not where it belongs in the heap", id)
		}
	}
	if full != b.owners.full || len(b.owners.byBytes) != len(b.owners.byID) {
		t.Errorf("%d owners are full, counted are %d; %d of %d are in the heap", full, b.owners.full, len(b.owners.byBytes), len(b.owners.byID))
	}
}
