package boltadapter

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// openBroker opens a broker on a log.
func openBroker(t *testing.T, l *Log, cfg broker.Config) *broker.Broker {
	t.Helper()
	cfg.Logger = l.logger
	b, err := broker.New(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if err := b.Reach(t.Context(), broker.Start{Earliest: true}); err != nil {
		t.Fatal(err)
	}
	return b
}

func publish(t *testing.T, b *broker.Broker, channel, data string) broker.ID {
	t.Helper()
	r, err := b.Publish(t.Context(), []broker.Op{{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Data: []byte(data)}}})
	if err != nil {
		t.Fatal(err)
	}
	return r[0].ID
}

// resumed is what a reader gets that comes back to channel a after id.
func resumed(t *testing.T, b *broker.Broker, id string) (texts []string) {
	t.Helper()
	s, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, Start: broker.Start{LastEventID: id}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	batch := broker.Batch{Decode: true}
	for more := true; more; more = batch.More {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		if batch.Gap != nil {
			texts = append(texts, "gap "+batch.Gap.Reason)
		}
		for i := range batch.Deliveries {
			texts = append(texts, string(batch.Deliveries[i].Event.Data))
		}
	}
	return texts
}

func TestReadersResumeExactlyAfterARestart(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	b := openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
	first := publish(t, b, "a", "1")
	publish(t, b, "b", "other")
	second := publish(t, b, "a", "2")
	if err := b.Tell(t.Context(), "about", []byte("1")); err != nil {
		t.Fatal(err)
	}
	notice := b.Head()
	if err := b.SetFact(t.Context(), "fact", []byte(`"known"`), time.Time{}); err != nil {
		t.Fatal(err)
	}
	fact := b.Head()
	last := publish(t, b, "a", "3")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
	for _, tt := range []struct {
		after string
		want  []string
	}{
		{first.String(), []string{"2", "3"}},
		{second.String(), []string{"3"}},
		{notice.String(), []string{"3"}},
		{fact.String(), []string{"3"}},
		{last.String(), nil},
		{broker.ID{Ms: last.Ms + 1000}.String(), []string{"gap diverged", "1", "2", "3"}},
		{"5-0", []string{"gap diverged", "1", "2", "3"}},
	} {
		if got := resumed(t, b, tt.after); !slices.Equal(got, tt.want) {
			t.Errorf("after %s: %q, want %q", tt.after, got, tt.want)
		}
	}
	if next := publish(t, b, "a", "4"); !next.After(last) {
		t.Errorf("%s was given after %s", next, last)
	}
	facts := make(chan broker.Notice, 10)
	b.Listen(func(n broker.Notice) { facts <- n })
	for n := range facts {
		if n.Settled {
			t.Fatal("the fact is not told")
		}
		if n.About == "fact" && string(n.Data) == `"known"` {
			break
		}
	}
}

// TestBoundValuesOfTheLastRunAreRemovedAndTold: their sessions are gone.
func TestBoundValuesOfTheLastRunAreRemovedAndTold(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	l := openLog(t, testConfig(dir))
	b := openBroker(t, l, broker.DefaultConfig())
	_, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, ID: "session"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), []broker.Op{
		{Kind: broker.KindState, Channel: "a", State: &broker.StateOp{Value: []byte("1"), Session: "session"}},
		{Kind: broker.KindState, Channel: "kept", State: &broker.StateOp{Value: []byte("2")}},
	}); err != nil {
		t.Fatal(err)
	}
	before := b.State("a")
	if before.Value == nil {
		t.Fatal("the value was not set")
	}
	l.crash()
	_ = b.Close()
	b = openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
	eventually(t, "the value of a session that is gone to go", func() bool { return b.State("a").Value == nil })
	if string(b.State("kept").Value) != "2" {
		t.Error("another value is gone, too")
	}
	if got := resumed(t, b, before.Version.String()); len(got) != 1 {
		t.Errorf("a reader that comes back gets %q", got)
	}
}

// TestFailedDiskStopsPublishersOnly: what was applied is read on, and the log is not up.
func TestFailedDiskStopsPublishersOnly(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	l := openOn(t, testConfig(tempLog(t)), files)
	b := openBroker(t, l, broker.DefaultConfig())
	publish(t, b, "a", "1")
	files.mu.Lock()
	files.fail = func(op diskOp) (int, error) {
		if op.kind == "sync" {
			return 0, syscall.EIO
		}
		return 0, nil
	}
	files.mu.Unlock()
	op := func() []broker.Op { return []broker.Op{{Kind: broker.KindEvent, Channel: "a"}} }
	if _, err := b.Publish(t.Context(), op()); !errors.Is(err, broker.ErrUncertain) {
		t.Errorf("the first publish: %v", err)
	}
	_, err := b.Publish(t.Context(), op())
	kind, ok := errors.AsType[interface {
		error
		ProblemDetail() string
	}](err)
	if !errors.Is(err, broker.ErrUnavailable) || !ok || !strings.Contains(kind.ProblemDetail(), "the disk of the log failed") {
		t.Errorf("the next one: %v", err)
	}
	if _, stale := b.Stale(); !stale || b.Loaded() != nil || b.Sync(t.Context()) != nil {
		t.Errorf("stale %v, loaded %v", stale, b.Loaded())
	}
	if got := resumed(t, b, l.born.String()); !slices.Equal(got, []string{"1"}) {
		t.Errorf("a reader gets %q", got)
	}
}

// TestPolicyThatChangedWhileTheLogWasClosedLosesNothingSilently: the old chain was trimmed.
func TestPolicyThatChangedWhileTheLogWasClosedLosesNothingSilently(t *testing.T) {
	t.Parallel()
	var c clock
	dir := tempLog(t)
	cfg := broker.DefaultConfig()
	b := openBroker(t, openAt(t, testConfig(dir), &c), cfg)
	first := publish(t, b, "a", "1")
	publish(t, b, "a", "2")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	c.add(2 * time.Hour)
	l := openAt(t, testConfig(dir), &c)
	tidy(t, l)
	if s := l.Stats(); s.Retained != 0 {
		t.Fatalf("%d entries are retained", s.Retained)
	}
	cfg.History.Events++
	b = openBroker(t, l, cfg)
	if got := resumed(t, b, first.String()); !slices.Equal(got, []string{"gap trimmed"}) {
		t.Errorf("got %q", got)
	}
}
