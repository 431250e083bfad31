package boltadapter

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// clock is a time that a test sets.
type clock struct{ skew atomic.Int64 }

func (c *clock) now() time.Time      { return time.Now().Add(time.Duration(c.skew.Load())) }
func (c *clock) add(d time.Duration) { c.skew.Add(int64(d)) }

// openAt opens a log with a clock.
func openAt(t testing.TB, cfg Config, c *clock) *Log {
	t.Helper()
	l, err := newLog(cfg, disk{}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// tidy does rounds of upkeep: one has the mark cover what the next removes.
func tidy(t testing.TB, l *Log) {
	t.Helper()
	for range 3 {
		l.upkeep.Lock()
		l.marked = 0
		l.upkeep.Unlock()
		if err := l.round(); err != nil {
			t.Fatal(err)
		}
	}
}

// nextSegment has the next commit begin segments.
func (l *Log) nextSegment() {
	l.committing.Lock()
	defer l.committing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.chains {
		if s := c.newest(); s != nil {
			s.entries = segmentEntries
		}
	}
}

func aged(channel, data string, age time.Duration) broker.Op {
	op := event(channel, data)
	op.History.Age = age
	return op
}

func TestSegmentsPastTheirPolicyAreRemoved(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	f := follow(t, l)
	short := appended(t, l, aged("a", "short", 10*time.Minute))[0].ID
	appended(t, l, aged("b", "long", 2*time.Hour), set("v", "1"), set("w", "1"))
	gone := appended(t, l, set("w", ""))[0].ID
	c.add(11 * time.Minute)
	tidy(t, l)
	if s := l.Stats(); s.Dropped != 2 || s.Segments != 1 {
		t.Fatalf("%d segments were removed, %d are left", s.Dropped, s.Segments)
	}
	appended(t, l, aged("a", "again", 10*time.Minute))
	_ = f.end()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openAt(t, testConfig(l.path), &c)
	f = follow(t, l)
	if got := f.texts(); !slices.Equal(got, []string{"long", "again"}) {
		t.Errorf("it has %q", got)
	}
	o := f.origin
	if o.Lost[aged("", "", 10*time.Minute).History] != short || len(o.Lost) != 1 {
		t.Errorf("lost are %v, want %s", o.Lost, short)
	}
	if len(o.States) != 1 || o.States[0].Channel != "v" || o.Removed["w"] != gone {
		t.Errorf("values %v, removed %v", o.States, o.Removed)
	}
}

func TestSegmentWithAKeyStaysForTheWindow(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	follow(t, l)
	first := appended(t, l, keyed(aged("a", "1", time.Minute), "k"))
	c.add(3 * time.Minute)
	tidy(t, l)
	l.crash()
	l = openAt(t, testConfig(l.path), &c)
	follow(t, l)
	if r := appended(t, l, keyed(aged("a", "1", time.Minute), "k")); !r[0].Repeated || r[0].ID != first[0].ID {
		t.Errorf("the key gives %+v", r[0])
	}
	c.add(3 * time.Minute)
	tidy(t, l)
	if s := l.Stats(); s.Segments != 0 {
		t.Errorf("%d segments are left", s.Segments)
	}
}

// TestPurgeOutlivesWhatItRemoves: the channel had another policy when the events came.
func TestPurgeOutlivesWhatItRemoves(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	follow(t, l)
	appended(t, l, aged("a", "secret", 2*time.Hour))
	purge := broker.Op{Kind: broker.KindPurge, Channel: "a", History: hour()}
	purge.History.Age = 10 * time.Minute
	appended(t, l, purge)
	c.add(30 * time.Minute)
	tidy(t, l)
	if s := l.Stats(); s.Retained != 2 {
		t.Errorf("%d entries are retained", s.Retained)
	}
	c.add(2 * time.Hour)
	tidy(t, l)
	tidy(t, l)
	if s := l.Stats(); s.Retained != 0 {
		t.Errorf("%d entries are retained", s.Retained)
	}
}

func TestOldestSegmentsGoOverRetain(t *testing.T) {
	t.Parallel()
	var c clock
	cfg := testConfig(tempLog(t))
	cfg.Retain = MinRetain
	l := openAt(t, cfg, &c)
	follow(t, l).drop.Store(true)
	data := strings.Repeat("x", 1<<20)
	op := event("a", data)
	op.History.Age = 0 // for ever
	for range 80 {
		appended(t, l, op)
	}
	tidy(t, l)
	if s := l.Stats(); s.SegmentBytes > MinRetain || s.Dropped == 0 {
		t.Errorf("%d bytes, %d segments removed", s.SegmentBytes, s.Dropped)
	}
}

// TestClockThatJumps: ids go on growing when the clock goes back by an hour between two
// runs, and nothing is removed early; when it goes on by an hour, all is past its age.
func TestClockThatJumps(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	follow(t, l)
	last := appended(t, l, keyed(event("a", "1"), "k"))[0].ID
	l.crash()
	for i := range 3 {
		c.add(-time.Hour)
		l = openAt(t, testConfig(l.path), &c)
		f := follow(t, l)
		if r := appended(t, l, keyed(event("a", "1"), "k")); !r[0].Repeated {
			t.Errorf("the key is forgotten")
		}
		r := appended(t, l, event("a", "more"))
		if !r[0].ID.After(last) || r[0].ID.Ms != last.Ms {
			t.Errorf("%s was given after %s", r[0].ID, last)
		}
		last = r[0].ID
		tidy(t, l)
		if got := len(f.texts()); got != i+2 {
			t.Errorf("%d entries", got)
		}
		_ = f.end()
		l.crash()
	}
	c.add(5 * time.Hour)
	l = openAt(t, testConfig(l.path), &c)
	follow(t, l)
	if r := appended(t, l, event("a", "later")); r[0].ID.Ms <= last.Ms {
		t.Errorf("%s was given after %s, two hours later", r[0].ID, last)
	}
}

func TestManyRemovedNamesAreForgottenInOrder(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	f := follow(t, l)
	var ops []broker.Op
	for i := range maxRemoved + 10 {
		ops = append(ops, set(fmt.Sprint("v", i), "1"), set(fmt.Sprint("v", i), ""))
	}
	results := appended(t, l, ops...)
	c.add(2 * time.Minute)
	tidy(t, l)
	_ = f.end()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openAt(t, testConfig(l.path), &c)
	o := follow(t, l).origin
	if len(o.Removed) != maxRemoved || o.Forgot != results[19].ID {
		t.Errorf("%d are removed, forgot is %s, want %s", len(o.Removed), o.Forgot, results[19].ID)
	}
}
