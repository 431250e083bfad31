package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// The model is a plain slice of what was published, and for each reader the
// set of events it is still owed. Against it runs a broker that is published
// to, purged, configured and read at random, by readers that join, leave, lag,
// are cut, and resume. After every read: what came is owed, in order, once;
// what is owed and did not come is kept nowhere and was announced by a gap;
// and there is no gap without a loss.

const modelSteps = 8_000

func TestModel(t *testing.T) {
	first, last := uint64(1), uint64(4) // with memory that is tight, or ample, and many channels, or few
	if os.Getenv("EVSTREAM_MUTANT") != "" {
		last = 12 // until one sees that the broker is broken
	}
	first, last = modelSeeds(t, first, last)
	modelOfSeeds(t, first, last)
}

// modelSeeds are the seeds that a model is run with, if EVSTREAM_SEEDS does not say others.
func modelSeeds(t *testing.T, first, last uint64) (from, to uint64) {
	if seeds := os.Getenv("EVSTREAM_SEEDS"); seeds != "" {
		if _, err := fmt.Sscanf(seeds, "%d-%d", &first, &last); err != nil || first > last {
			t.Fatalf("EVSTREAM_SEEDS is such as 1-1000, not %q", seeds)
		}
	}
	return first, last
}

// modelOfSeeds runs the model with seeds, and fails where they came across too little.
func modelOfSeeds(t *testing.T, from, to uint64) {
	var met modelCoverage
	for seed := from; seed <= to && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runModel(t, seed, modelSteps, &met) })
		})
	}
	if !t.Failed() {
		met.enough(t)
	}
}

var (
	modelChannels = []string{"a", "b", "a/x", "a/y", "a/x/1", "b/x", "c", "quiet", "off/1", "off/2", "few/1", "big/1"}
	modelTargets  = append([]string{"a/", "b/", "a/x/", "off/", "c/"}, modelChannels...)
	modelPatterns = []string{"**", "*", "a/*", "a/**", "*/x", "*/1", "off/*", "few/**", "q*t", "big/*"}
	modelTypes    = []string{"", "goal", "card"}
)

type modelEntry struct {
	id      ID
	channel string
	typ     string
	except  string
	filter  *Filter
	own     string
	purged  bool
	refused bool // the channel was closed
}

type modelReader struct {
	sub     *Subscription
	id      string
	names   []string
	before  []string // names before the last join
	types   []string
	decode  bool
	cursor  ID           // what the client would send back
	own     string       // the last publisher's id that it got
	calm    ID           // the cursor when there was nothing more to read
	gapAt   ID           // the cursor when it was told of a gap
	owed    map[int]bool // indices in model.log
	late    map[int]bool // owed from before a join
	had     map[int]bool
	maybe   map[int]bool // announced as lost: they may come, or not
	seen    int          // entries of the log that are accounted for
	gap     string       // reason that must be announced, "?" if one may be
	begun   Start
	lives   map[string]int        // of patterns, when r last looked
	view    map[string]modelState // the values that the client has
	since   ID                    // values of this version and older are not told
	level   bool                  // none of names is behind another
	hasLeft bool                  // a name, since it had everything
	joined  []string              // names, since it had everything
	knows   []string              // the names, as it was told of joins and leaves
	ends    map[string]ID         // of names, by what it was told
}

type model struct {
	t       *testing.T
	rng     *rand.Rand
	b       *Broker
	skew    time.Duration
	log     []modelEntry
	live    map[ID]bool // those of log that were published where no history was kept
	readers []*modelReader
	next    int
	foreign ID
	origin  ID
	states  map[string][]modelState
	closed  map[string]modelClosed
	*modelCoverage
	modelBetween

	few      bool // there is room for few channels
	ample    bool // there is memory for all
	looked   map[string]patternLook
	cfg      Config
	channels int // that were allowed at some time
}

func runModel(t *testing.T, seed uint64, steps int, met *modelCoverage) {
	m := &model{t: t, modelCoverage: met, rng: rand.New(rand.NewPCG(seed, 7)), foreign: NewMemory().decide.last, ample: seed%2 == 0, few: seed%4 == 3 || seed%4 == 0}
	m.live, m.states = map[ID]bool{}, map[string][]modelState{}
	m.closed = map[string]modelClosed{}
	m.looked = map[string]patternLook{}
	m.cfg = m.config()
	log := newMemory(func() time.Time { return time.Now().Add(m.skew) })
	b, err := New(log, m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.b, m.origin = b, b.Head()
	b.steps.names, b.steps.entries, b.steps.between = 2, 2, m.between
	for range steps {
		m.step()
		if t.Failed() {
			break
		}
	}
	b.steps.between = nil
	for _, r := range m.readers {
		m.read(r, true)
		r.sub.Close()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := b.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	m.seeds++
	m.steps += steps
	m.events += len(m.log)
	if m.few {
		m.tight += steps
	}
}

func (m *model) step() {
	switch n := m.rng.IntN(100); {
	case n < 32:
		m.publish(1 + m.rng.IntN(4)*m.rng.IntN(3))
	case n < 40:
		m.write(1 + m.rng.IntN(4)*m.rng.IntN(3))
	case n < 44:
		m.publish(30)
	case n < 46:
		m.purge()
	case n < 47:
		m.close()
	case n < 52:
		m.subscribe()
	case n < 80 && len(m.readers) > 0:
		m.read(m.pick(), m.rng.IntN(3) > 0)
	case n < 84 && len(m.readers) > 0:
		m.join(m.pick())
	case n < 87 && len(m.readers) > 0:
		m.leave(m.pick())
	case n < 93 && len(m.readers) > 0:
		m.cut(m.pick())
	case n < 94:
		m.configure()
	case n < 95:
		m.skew = time.Duration(m.rng.IntN(4000)-2000) * time.Millisecond
	case n < 96 && m.rng.IntN(20) == 0:
		time.Sleep(minClosed)
	case n < 96:
		time.Sleep(time.Duration(m.rng.IntN(15)) * time.Second)
	default:
		time.Sleep(time.Duration(m.rng.IntN(3)) * time.Millisecond)
	}
	synctest.Wait()
	m.account()
	m.bounded()
	m.over()
	m.patternsHold()
}

func (m *model) pick() *modelReader { return m.readers[m.rng.IntN(len(m.readers))] }

func one[T any](m *model, of []T) T { return of[m.rng.IntN(len(of))] }

func (m *model) publish(n int) {
	var ops []Op
	var entries []modelEntry
	for range n {
		e := modelEntry{channel: one(m, modelTargets), typ: one(m, modelTypes)}
		if m.rng.IntN(10) == 0 && len(m.readers) > 0 {
			e.except = m.pick().id
		}
		if m.rng.IntN(10) == 0 {
			e.filter = m.filter()
		}
		if m.rng.IntN(10) == 0 {
			e.own = m.newOwn()
		}
		data := strconv.Itoa(len(m.log) + len(entries))
		if strings.HasPrefix(e.channel, "big") {
			data += strings.Repeat("\nx", m.rng.IntN(500))
		}
		ops = append(ops, Op{Kind: KindEvent, Channel: e.channel, Event: sse.Event{Type: e.typ, ID: e.own, Data: []byte(data)}, Except: e.except, Filter: e.filter})
		entries = append(entries, e)
	}
	was := m.standing()
	results, err := m.b.Publish(context.Background(), ops)
	if m.refused("publish", err, was, false) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.admitted(was, ops)
	for i, r := range results {
		if m.late(entries[i].channel, &r) {
			entries[i] = modelEntry{id: m.b.Head(), refused: true} // some good cursor
			continue
		}
		entries[i].id = r.ID
		if m.cfg.historyOf(entries[i].channel).Events == 0 {
			m.live[r.ID] = true
		}
	}
	m.log = append(m.log, entries...)
}

func (m *model) purge() {
	name := one(m, modelChannels)
	if _, err := m.b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: name}}); err != nil {
		m.t.Fatal(err)
	}
	for i := range m.log {
		if m.log[i].channel == name {
			m.log[i].purged = true
		}
	}
	m.opened(name)
}

// account gives every reader the events that were published since.
func (m *model) account() {
	for _, r := range m.readers {
		for ; r.seen < len(m.log); r.seen++ {
			if e := &m.log[r.seen]; e.filter != nil {
				if r.passes(e.filter) {
					m.filtered[1]++
				} else {
					m.filtered[0]++
				}
			}
			if r.wants(&m.log[r.seen], r.names) {
				r.owed[r.seen] = true
			}
		}
	}
}

func (r *modelReader) wants(e *modelEntry, names []string) bool {
	if e.refused || !r.passes(e.filter) || e.except == r.id || len(r.types) > 0 && !slices.Contains(r.types, e.typ) {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool { return naiveMatch(name, e.channel) })
}

// read checks one read, or as many as it takes to get everything.
func (m *model) read(r *modelReader, all bool) {
	m.reads++
	m.busy = r
	batch := Batch{Decode: r.decode, Max: 1 + m.rng.IntN(300)}
	if r.decode {
		batch.Max = 1 + m.rng.IntN(10)
	}
	announced := ""
	for {
		before := r.sub.Cursor()
		if err := r.sub.Read(&batch); err != nil {
			m.t.Fatal(err)
		}
		if batch.Gap != nil && announced == "" {
			announced = batch.Gap.Reason
			r.gapAt = before
		}
		if batch.Gap != nil {
			r.since = ID{} // all is told again
			for name, s := range r.view {
				s.id = ID{}
				r.view[name] = s
			}
		}
		m.changes(r, &batch, before)
		m.check(r, &batch, before, announced)
		m.tellEnds(r, &batch)
		if !all || !batch.More {
			break
		}
	}
	if !batch.More {
		m.drained(r, announced)
		m.ended(r, &batch)
	}
	if announced != "" {
		m.gaps++
	}
	// A reader that was told of a gap, in a part of what it reads, is owed
	// only what is kept.
	if announced != "" && batch.More {
		m.forgive(r)
		r.gap = "?"
	}
}

// check checks one batch.
func (m *model) check(r *modelReader, batch *Batch, before ID, announced string) {
	last := ID{}
	for i, index := range m.indices(batch, r) {
		e := &m.log[index]
		switch {
		case r.had[index] && !r.maybe[index]:
			m.t.Errorf("%s got %d (%s on %s) twice", r.id, index, e.id, e.channel)
		case !r.owed[index] && !r.maybe[index]:
			m.t.Errorf("%s %v %+v got %d (%s on %s), which it is not owed", r.id, r.names, r.begun, index, e.id, e.channel)
		case !slices.ContainsFunc(r.knows, func(name string) bool { return naiveMatch(name, e.channel) }):
			m.t.Errorf("%s knows that it reads %v, and got %d (%s on %s)", r.id, r.knows, index, e.id, e.channel)
		case last.After(e.id):
			m.t.Errorf("%s got %s after %s", r.id, e.id, last)
		case !r.decode && m.hasID(batch, i) != e.id.After(before) && e.own == "":
			m.t.Errorf("%s at %s got %s with an id: %v", r.id, before, e.id, !e.id.After(before))
		}
		delete(r.owed, index)
		delete(r.maybe, index)
		r.had[index] = true
		last = e.id
		if e.own != "" {
			r.own = e.own
		}
	}
	if !batch.Last.IsZero() {
		r.cursor = batch.Last
	}
	// What the client sends back lies above nothing that it is owed.
	for index := range r.owed {
		if !m.log[index].id.After(r.cursor) && !r.late[index] && announced == "" && r.gap == "" {
			m.t.Errorf("%s holds the cursor %s and is owed %s", r.id, r.cursor, m.log[index].id)
		}
	}
}

// drained checks that a reader with nothing more to read is owed nothing that
// was not announced as lost.
func (m *model) drained(r *modelReader, announced string) {
	if !sameNames(r.knows, r.names) {
		m.t.Errorf("%s knows that it reads %v, and reads %v", r.id, r.knows, r.names)
	}
	m.sameView(r)
	kept := m.keptByAll(r)
	lost := 0
	for index := range r.owed {
		lost++
		if e := &m.log[index]; kept(e) {
			m.t.Errorf("%s %v %+v did not get %d (%s on %s), which is kept", r.id, r.names, r.begun, index, e.id, e.channel)
		} else if announced == "" {
			m.t.Errorf("%s %v lost %d (%s on %s) without a gap", r.id, r.names, index, e.id, e.channel)
		}
	}
	switch want := r.gap; {
	case want != "" && want != "?" && want != announced:
		m.t.Errorf("%s %v: gap %q, want %q", r.id, r.names, announced, want)
	case want == "" && announced != "" && lost == 0:
		// It may be that only events were lost that r does not want, or those
		// that another of its names has kept; or that what it joined keeps
		// nothing by now, and it had not looked yet.
		switch {
		case m.hiddenLoss(r, r.names, latest(r.calm, r.gapAt)) != "":
		case len(r.joined) > 0:
			m.excused++
		default:
			m.t.Errorf("%s %v %+v calm %v was told of a gap (%s), but lost nothing", r.id, r.names, r.begun, r.calm, announced)
		}
	}
	for index := range r.owed {
		r.maybe[index] = true
	}
	clear(r.owed)
	clear(r.late)
	r.gap, r.hasLeft, r.joined, r.level = "", false, nil, true
	r.cursor = r.sub.Cursor() // as an evstream.at tells
	r.calm = r.cursor
	r.look(m)
}

// forgive drops what a reader is owed and was told is lost.
func (m *model) forgive(r *modelReader) {
	kept := m.keptByAll(r)
	for index := range r.owed {
		if !kept(&m.log[index]) {
			delete(r.owed, index)
			r.maybe[index] = true
		}
	}
}

// indices are the events of a batch, by their data.
func (m *model) indices(batch *Batch, r *modelReader) (list []int) {
	add := func(data []byte) {
		text, _, _ := strings.Cut(string(data), "\n")
		n, err := strconv.Atoi(text)
		if err != nil {
			m.t.Fatal(err)
		}
		list = append(list, n)
	}
	values := 0
	for _, d := range batch.Deliveries {
		if d.State != nil {
			values++
			continue
		}
		add(d.Event.Data)
		if e := m.log[list[len(list)-1]]; d.ID != e.id || d.Channel != e.channel || d.Event.Type != e.typ || d.Event.ID != e.own && d.Event.ID != e.id.String() {
			m.t.Errorf("delivered %+v for %+v", d, e)
		}
	}
	events, frames := m.split(batch)
	for _, e := range events {
		add(e.Data)
	}
	m.values(r, batch, frames)
	if len(list)+len(frames)+values != batch.Events {
		m.t.Errorf("a batch of %d events says %d", len(list), batch.Events)
	}
	return list
}

func (m *model) decode(batch *Batch) (events []sse.Event) {
	d := sse.NewDecoder(bytes.NewReader(batch.Bytes), 1<<20)
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			m.t.Fatal(err)
		}
		events = append(events, e)
	}
}

func (m *model) hasID(batch *Batch, i int) bool {
	events, _ := m.split(batch)
	return events[i].ID != ""
}
