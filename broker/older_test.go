package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// handLog is a log whose follower is used by hand.
type handLog struct {
	*MemoryLog
	follower chan Follower
}

func (l *handLog) Follow(ctx context.Context, f Follower) error {
	f.Cut(nil)
	l.follower <- f
	<-ctx.Done()
	return ctx.Err()
}

// byHand is a broker, and what its log calls.
func byHand(t *testing.T, cfg Config) (*Broker, Follower) {
	t.Helper()
	log := &handLog{NewMemory(), make(chan Follower, 1)}
	b, err := New(log, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, <-log.follower
}

// olderModel compares a broker that is given what is older while it is used with one that
// was given all in order.
type olderModel struct {
	t       *testing.T
	rng     *rand.Rand
	tight   bool // there is room for little
	entries []Entry
	live    int // where in entries those begin that are appended later
	applied int // how many of entries are applied
	end     int // how many of entries are still to come as what is older
	floor   ID
	purged  bool // between two steps, since the followers read

	b, want   *Broker
	f, wantF  Follower
	followers []*olderReader
	met       map[string]int
}

// olderReader reads what is published from a time on.
type olderReader struct {
	name string
	sub  *Subscription
	from int
	got  []string
}

// TestWhatIsOlderIsAsIfItHadComeFirst has brokers serve while what is older comes: nobody
// gets less than with all in order, nothing twice, and no gap more.
func TestWhatIsOlderIsAsIfItHadComeFirst(t *testing.T) {
	t.Parallel()
	met := map[string]int{}
	first, last := modelSeeds(t, 0, 15)
	for seed := first; seed <= last; seed++ {
		synctest.Test(t, func(t *testing.T) {
			m := &olderModel{t: t, rng: rand.New(rand.NewPCG(seed, 11)), tight: seed%3 == 0, met: met}
			m.run()
		})
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
	for _, what := range []string{"refused", "whole", "gap", "live", "waited", "pattern", "in steps", "older between steps"} {
		if met[what] < 10 {
			t.Errorf("the model met %q %d times", what, met[what])
		}
	}
}

func (m *olderModel) config() Config {
	cfg := DefaultConfig()
	cfg.History = Policy{Events: 40, Bytes: 1 << 20}
	cfg.Rules = []Rule{
		{Pattern: "few/*", Policy: Policy{Events: 3, Bytes: 1 << 20}},
		{Pattern: "off/*", Policy: Policy{Bytes: 1 << 20}},
		{Pattern: "young/*", Policy: Policy{Events: 40, Bytes: 1 << 20, Age: 300 * time.Millisecond}},
	}
	if m.tight {
		cfg.MaxChannels = 5 + m.rng.IntN(4)
		cfg.MaxBytes = 16 << 10
		cfg.History.Bytes = 4 << 10
	}
	return cfg
}

var (
	olderNames    = []string{"a", "b", "a/x", "a/y", "a/", "b/z", "few/1", "few/2", "off/1", "young/1", "c", "d"}
	olderPatterns = []string{"**", "a/*", "few/*", "*/x"}
)

// entry makes entry number i.
func (m *olderModel) entry(i int, base uint64) Entry {
	name := olderNames[m.rng.IntN(len(olderNames))]
	e := Entry{
		ID: ID{base + uint64(i), uint64(m.rng.IntN(3))}, Version: EntryVersion, Kind: KindEvent, Channel: name,
		Event: sse.Event{Data: fmt.Appendf(nil, "%d", i)}, Owner: Owner(1 + m.rng.IntN(3)),
	}
	switch n := m.rng.IntN(40); {
	case n == 0 && !channel.IsBeneath(name):
		e.Kind, e.Event = KindPurge, sse.Event{}
	case n == 1:
		e.Event.ID = fmt.Sprint("own", i)
	case n == 2:
		e.Except = "me"
	case n == 3:
		e.Kind, e.Close = KindClose, &CloseEntry{For: time.Millisecond, Event: true}
		e.Channel = "d"
	}
	return e
}

func (m *olderModel) run() {
	time.Sleep(time.Hour)
	const retained, later = 300, 60
	base := uint64(time.Now().UnixMilli()) - retained
	for i := range retained + later {
		m.entries = append(m.entries, m.entry(i, base))
	}
	m.live, m.applied = retained, retained
	cfg := m.config()
	m.b, m.f = byHand(m.t, cfg)
	m.want, m.wantF = byHand(m.t, cfg)
	last := m.entries[retained-1].ID
	born := ID{base - 1000, 0}
	m.wantF.Start(Origin{ID: born, Durable: true, Born: born, Issued: last})
	m.wantF.Apply(m.entries[:retained])
	m.wantF.Ready()
	m.f.Start(Origin{ID: last, Older: true, Durable: true, Born: born, Issued: last})
	m.f.Ready()
	m.floor, m.end = last, retained
	m.b.steps.names, m.b.steps.entries, m.b.steps.between = 1, 1, m.between
	for !m.floor.IsZero() || m.applied < len(m.entries) {
		switch n := m.rng.IntN(10); {
		case n < 3 && m.applied < len(m.entries):
			m.apply()
		case n < 5 && !m.floor.IsZero():
			after, come := m.older(80)
			m.wait(after, come)
			m.floor = after
		case n == 5 && len(m.followers) < 6:
			m.follow()
		case n == 6:
			m.b.sweep()
			m.want.sweep()
		default:
			m.begin()
		}
		m.read()
		m.patternsHold()
	}
	if !m.b.Complete() {
		m.t.Error("it is not complete")
	}
	for range 60 {
		m.begin()
	}
	m.read()
}

// wait checks that those wait until it is here who need what comes now.
func (m *olderModel) wait(after ID, come func()) {
	need := m.entries[m.rng.IntN(m.live)].ID
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	go func() {
		done <- m.b.Reach(ctx, Start{LastEventID: need.String()})
		cancel()
	}()
	synctest.Wait()
	if early := len(done) == 1; early == m.floor.After(need) {
		m.t.Fatalf("it waits: %v, for what is above %s of %s", !early, need, m.floor)
	}
	come()
	synctest.Wait()
	if late := len(done) == 0; late != after.After(need) {
		m.t.Fatalf("it waits: %v, for what is above %s of %s", late, need, after)
	}
	if m.floor.After(need) && !after.After(need) {
		m.met["waited"]++
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		m.t.Fatal(err)
	}
}

// follow begins to read a name from now on.
func (m *olderModel) follow() {
	name := slices.Concat(olderNames[:4], olderPatterns)[m.rng.IntN(4+len(olderPatterns))]
	sub, err := m.b.Subscribe(SubscribeOptions{Channels: []string{name}, ID: "me"})
	if m.tight && errors.Is(err, ErrTooManyChannels) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.followers = append(m.followers, &olderReader{name: name, sub: sub, from: m.applied})
}

// read has the readers read: each gets all from when it began, and nothing else.
func (m *olderModel) read() {
	for _, r := range m.followers {
		gap, got := texts(m.t, r.sub)
		r.got = append(r.got, got...)
		want := m.selected(r.name, r.from, true)
		if gap != "" && m.purged {
			r.got = want // it had not read yet what was purged
		}
		if gap != "" && !m.tight && !m.purged || !slices.Equal(r.got, want) && gap == "" && !m.tight {
			m.t.Fatalf("a reader of %s got %q and the gap %q, want %q", r.name, r.got, gap, want)
		}
		if len(want) > 0 {
			m.met["live"]++
		}
	}
	m.purged = false
}

// selected are the events that a name selects, from a number on. With all, those that are
// not kept or were purged are among them.
func (m *olderModel) selected(name string, from int, all bool) (data []string) {
	reads := func(of string) bool { return of == name || channel.IsBeneath(of) && channel.Reaches(of, name) }
	if channel.IsPattern(name) {
		p, _ := channel.ParsePattern(name)
		reads = p.Match
	}
	for i := from; i < m.applied; i++ {
		e := &m.entries[i]
		if e.Kind == KindPurge || e.Except == "me" || !reads(e.Channel) || !all && e.Channel == "off/1" {
			continue
		}
		purged := slices.ContainsFunc(m.entries[i:m.applied], func(other Entry) bool {
			return other.Kind == KindPurge && other.Channel == e.Channel
		})
		if purged && !all {
			continue
		}
		data = append(data, string(e.Event.Data))
	}
	return data
}

// begin begins to read at random, at both brokers.
func (m *olderModel) begin() {
	name := slices.Concat(olderNames, olderPatterns)[m.rng.IntN(len(olderNames)+len(olderPatterns))]
	if channel.IsBeneath(name) {
		return
	}
	at := m.rng.IntN(m.applied)
	if !m.floor.IsZero() && m.rng.IntN(3) > 0 {
		at = m.live - 1 - m.rng.IntN(100)
	}
	id := m.entries[at].ID
	start, need, exact := Start{LastEventID: id.String()}, id, true
	switch m.rng.IntN(12) {
	case 0:
		start, need = Start{Earliest: true}, ID{}
	case 1:
		start, need = Start{Last: 1 + m.rng.IntN(5)}, ID{}
	case 2:
		start, need, exact = Start{LastEventID: fmt.Sprint("own", at)}, ID{}, false
	case 3:
		start, exact = Start{Since: time.UnixMilli(int64(id.Ms) + 1)}, false
		need = ID{id.Ms, ^uint64(0)}
	}
	begin := func(b *Broker) (*Subscription, error) {
		return b.Subscribe(SubscribeOptions{Channels: []string{name}, Start: start, ID: "me"})
	}
	floor := m.floor
	sub, err := begin(m.b)
	if floor.After(need) {
		if !errors.Is(err, ErrLoading) {
			m.t.Fatalf("%+v of %s begins with what is above %s here: %v", start, name, m.floor, err)
		}
		m.met["refused"]++
		return
	}
	if m.tight && errors.Is(err, ErrTooManyChannels) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer sub.Close()
	gap, got := texts(m.t, sub)
	if channel.IsPattern(name) {
		m.met["pattern"]++
		m.ascend(name, got)
	} else if start.LastEventID == "" {
		m.resume(name, sub.Start(), got)
	}
	if gap != "" {
		m.met["gap"]++
	} else if need == id && exact {
		m.met["whole"]++
		// Without a gap nothing may lack, whatever the bounds are.
		if want := m.selected(name, at+1, false); !slices.Equal(want, subset(got, want)) {
			m.t.Fatalf("%s after %s (floor %s): %q, without a gap; want %q", name, id, m.floor, got, want)
		}
	}
	if m.tight || channel.IsPattern(name) { // a pattern also has what its channels had when it was refilled
		return
	}
	other, err := begin(m.want)
	if err != nil {
		m.t.Fatal(err)
	}
	defer other.Close()
	wantGap, want := texts(m.t, other)
	if gap != wantGap || !slices.Equal(got, want) {
		m.t.Fatalf("%s from %+v (floor %s): gap %q and %q, want gap %q and %q", name, start, m.floor, gap, got, wantGap, want)
	}
	r, w := sub.Replay(), other.Replay()
	if (r == nil) != (w == nil) || r != nil && (r.Complete != w.Complete || r.Oldest != w.Oldest && m.floor.IsZero()) {
		m.t.Fatalf("%s from %+v: replay %+v, want %+v", name, start, r, w)
	}
	i, ok := m.b.Channel(name)
	j, wantOK := m.want.Channel(name)
	i.Appended, j.Appended = 0, 0 // what had no room never came
	i.Bytes, j.Bytes, i.Subscribers, j.Subscribers, i.Closed, j.Closed = 0, 0, 0, 0, ID{}, ID{}
	if m.floor.IsZero() && (ok && i.Events > 0 || wantOK && j.Events > 0) && i != j {
		m.t.Fatalf("%s is %+v, want %+v", name, i, j)
	}
}

// resume resumes from where a reader began, who got nothing of what there was.
func (m *olderModel) resume(name string, at ID, want []string) {
	sub, err := m.b.Subscribe(SubscribeOptions{Channels: []string{name}, Start: Start{LastEventID: at.String()}, ID: "me"})
	if err != nil {
		m.t.Fatal(err)
	}
	defer sub.Close()
	if gap, got := texts(m.t, sub); gap == ReasonDiverged || !slices.Equal(subset(want, got), want) {
		m.t.Fatalf("who began to read %s at %s gets the gap %q and %q then, want %q", name, at, gap, got, want)
	}
}

// subset is what of all is in some.
func subset(all, some []string) (in []string) {
	for _, s := range all {
		if slices.Contains(some, s) {
			in = append(in, s)
		}
	}
	return in
}

// texts is what a subscription has to read, and the reason of its gap.
func texts(t *testing.T, sub *Subscription) (gap string, data []string) {
	t.Helper()
	batch := Batch{Decode: true}
	for more := true; more; more = batch.More {
		if err := sub.Read(&batch); err != nil {
			t.Fatal(err)
		}
		if batch.Gap != nil {
			gap = batch.Gap.Reason
		}
		for i := range batch.Deliveries {
			data = append(data, string(batch.Deliveries[i].Event.Data))
		}
	}
	return gap, data
}
