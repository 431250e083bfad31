package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The model of bindings: values that are bound to several sessions at random, written,
// unbound and removed, while sessions begin and end. A value goes with the last session
// that it is bound to, and never before; readers are told what there is.

type bindingModel struct {
	t      *testing.T
	rng    *rand.Rand
	b      *Broker
	open   map[string]*Subscription
	values map[string]boundValue
	view   map[string]string // what the watcher was told
	met    struct{ bound, unbound, kept, gone, refused, left int }
}

type boundValue struct {
	value string
	by    map[string]bool
}

func TestValuesGoWithTheLastOfTheirSessions(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &bindingModel{
					t: t, rng: rand.New(rand.NewPCG(seed, 11)), b: stateBroker(t),
					open: map[string]*Subscription{}, values: map[string]boundValue{}, view: map[string]string{},
				}
				watcher := subscribeTo(t, m.b, SubscribeOptions{Channels: []string{"*"}})
				for n := range 2000 {
					m.step(n)
					time.Sleep(2 * expiryPause)
					synctest.Wait()
					m.told(frames(t, watcher))
					if m.check(); t.Failed() {
						t.Fatalf("step %d: %+v", n, m.met)
					}
				}
				if c := m.met; min(c.bound, c.unbound, c.kept, c.gone, c.refused, c.left) < 20 {
					t.Errorf("the run did not test bindings: %+v", c)
				}
			})
		})
	}
}

func (m *bindingModel) step(n int) {
	channel := fmt.Sprint("v", m.rng.IntN(4))
	v := m.values[channel]
	session := m.session()
	switch op := set(channel, fmt.Sprint(n)); m.rng.IntN(8) {
	case 0:
		if len(m.open) == 4 {
			return
		}
		name := fmt.Sprint("s", n)
		m.open[name] = subscribeTo(m.t, m.b, SubscribeOptions{ID: name, Channels: []string{"x"}})
	case 1:
		if session != "" {
			m.end(session)
		}
	case 2, 3, 4: // bound to one more; now and then the value is as it was
		if session == "" {
			return
		}
		if v.value != "" && m.rng.IntN(3) == 0 {
			op = set(channel, v.value)
		}
		op.State.Session = session
		m.must(op)
		by := map[string]bool{session: true}
		maps.Copy(by, v.by)
		m.values[channel] = boundValue{string(op.State.Value), by}
		m.met.bound++
	case 5, 6: // unbound from one, that it may not be bound to
		if session == "" {
			return
		}
		op.State.Value, op.State.Session = nil, session
		err := m.try(op)
		if v.by[session] != (err == nil) || err != nil && !errors.Is(err, ErrStateMismatch) {
			m.t.Errorf("unbinding %s, which is bound to %v, from %s: %v", channel, v.by, session, err)
		}
		if err != nil {
			m.met.refused++
			return
		}
		m.met.unbound++
		m.lose(channel, session)
	case 7: // bound to none, removed, or changed and bound as before
		switch {
		case m.rng.IntN(2) == 0:
			m.must(op)
			m.values[channel] = boundValue{value: fmt.Sprint(n)}
		case v.value == "":
		case m.rng.IntN(2) == 0:
			op.State.Value = nil
			m.must(op)
			delete(m.values, channel)
		default:
			if _, err := m.b.Update(context.Background(), Update{Channel: channel}, func(State) ([]byte, error) { return op.State.Value, nil }); err != nil {
				m.t.Error(err)
			}
			m.values[channel] = boundValue{fmt.Sprint(n), v.by}
		}
	}
}

// session is one that is open, "" if none is.
func (m *bindingModel) session() string {
	if len(m.open) == 0 {
		return ""
	}
	return one(&model{rng: m.rng}, slices.Sorted(maps.Keys(m.open)))
}

// end ends a session.
func (m *bindingModel) end(session string) {
	m.open[session].Close()
	delete(m.open, session)
	for channel, v := range m.values {
		if v.by[session] {
			m.met.left++
			m.lose(channel, session)
		}
	}
}

// lose takes a session from those that a value is bound to.
func (m *bindingModel) lose(channel, session string) {
	v := m.values[channel]
	if delete(v.by, session); len(v.by) > 0 {
		m.met.kept++
		return
	}
	m.met.gone++
	delete(m.values, channel)
}

func (m *bindingModel) try(op Op) error {
	results, err := m.b.Publish(context.Background(), []Op{op})
	if err != nil {
		return err
	}
	return results[0].Err
}

func (m *bindingModel) must(op Op) {
	if err := m.try(op); err != nil {
		m.t.Errorf("%s: %v", op.Channel, err)
	}
}

// told applies what the watcher was told.
func (m *bindingModel) told(frames string) {
	for frame := range strings.SplitSeq(strings.TrimSuffix(frames, "|"), "|") {
		if frame == "" {
			continue
		}
		_, rest, _ := strings.Cut(frame, "event: ")
		name, data, _ := strings.Cut(rest, " data: ")
		var doc struct {
			Value   json.RawMessage
			Deleted bool
		}
		if err := json.Unmarshal([]byte(data), &doc); err != nil {
			m.t.Errorf("told %q: %v", frame, err)
		}
		if delete(m.view, name); !doc.Deleted {
			m.view[name] = string(doc.Value)
		}
	}
}

// check compares the values, what they are bound to, and what was told.
func (m *bindingModel) check() {
	for i := range 4 {
		name := fmt.Sprint("v", i)
		got, want := m.b.State(name), m.values[name]
		by := strings.Fields(got.Session)
		slices.Sort(by)
		if string(got.Value) != want.value || !slices.Equal(by, slices.Sorted(maps.Keys(want.by))) || m.view[name] != want.value {
			m.t.Errorf("%s is %q, bound to %v, and was told as %q; want %q, %v", name, got.Value, by, m.view[name], want.value, want.by)
		}
	}
}
