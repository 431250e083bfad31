package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logged is a Logger of a test, and all that was logged with it.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines are what was logged since it was asked last, as level and message.
func (l *logged) lines() (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		line = line[strings.Index(line, "level="):]
		lines = append(lines, strings.TrimSpace(line))
	}
	l.text.Reset()
	return lines
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// expect fails the test unless the lines begin as the wanted ones do.
func (l *logged) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	got := l.lines()
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s: logged\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// failingLog is a memory log that several nodes share, as far as the broker
// knows, and that fails when a test says so. It remembers no report across an
// error.
type failingLog struct {
	*MemoryLog
	follow chan error // ends Follow

	mu        sync.Mutex
	appending error
	reporting error
	reports   []map[string]int
}

func newFailingLog() *failingLog {
	return &failingLog{MemoryLog: NewMemory(), follow: make(chan error)}
}

func (l *failingLog) Follow(ctx context.Context, f Follower) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- l.MemoryLog.Follow(ctx, f) }()
	select {
	case err := <-l.follow:
		stop()
		<-ended
		return err
	case err := <-ended:
		return err
	}
}

func (l *failingLog) fail(appending, reporting error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appending, l.reporting = appending, reporting
}

func (l *failingLog) Append(ctx context.Context, ops []Op) ([]Result, error) {
	l.mu.Lock()
	err := l.appending
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return l.MemoryLog.Append(ctx, ops)
}

func (l *failingLog) Node() string { return "n" }

func (l *failingLog) Members() ([]string, bool) { return []string{"n"}, true }

func (l *failingLog) Report(_ context.Context, readers map[string]int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports = append(l.reports, maps.Clone(readers))
	return l.reporting
}

func (l *failingLog) Readers(_ context.Context, names []string) ([]int, error) {
	return make([]int, len(names)), nil
}

// reported are the reports since it was asked last.
func (l *failingLog) reported() []map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	reports := l.reports
	l.reports = nil
	return reports
}

func failingBroker(t *testing.T) (*Broker, *failingLog, *logged) {
	t.Helper()
	log, out := newFailingLog(), &logged{}
	cfg := DefaultConfig()
	cfg.Logger = out.logger()
	cfg.State.TTL = time.Minute
	b, err := New(log, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, log, out
}

func TestFollowThatEndsLaterIsNotSilent(t *testing.T) {
	for name, why := range map[string]error{"with an error": errors.New("the disk is gone"), "without one": nil, "closed by itself": ErrClosed} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, log, out := failingBroker(t)
				publish(t, b, "a", "x")
				time.Sleep(time.Hour)
				out.expect(t, "before")
				ended := time.Now()
				log.follow <- why
				synctest.Wait()
				time.Sleep(time.Hour)
				out.expect(t, "when it ended", `level=ERROR msg="following the log ended: nothing more is applied"`)
				if since, stale := b.Stale(); !stale || !since.Equal(ended) {
					t.Errorf("stale %v since %s, want %s", stale, since, ended)
				}
				if err := b.Loaded(); !errors.Is(err, ErrUnavailable) || why != nil && !errors.Is(err, why) {
					t.Errorf("Loaded: %v", err)
				}
				if _, err := b.Publish(t.Context(), []Op{{Kind: KindEvent, Channel: "a"}}); !errors.Is(err, ErrUnavailable) {
					t.Errorf("Publish: %v", err)
				}
				if _, err := b.Subscribe(SubscribeOptions{Channels: []string{"a"}}); !errors.Is(err, ErrUnavailable) {
					t.Errorf("Subscribe: %v", err)
				}
			})
		})
	}
}

func TestFollowThatEndsWithTheBrokerIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, out := failingBroker(t)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		out.expect(t, "at the end")
	})
}

func TestFollowThatFailsAtOnceIsAnErrorOfNew(t *testing.T) {
	log := NewMemory()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	cfg, out := DefaultConfig(), &logged{}
	cfg.Logger = out.logger()
	if _, err := New(log, cfg); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	out.expect(t, "returned")
}

func TestReadersAreReportedUntilTheLogHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log, out := failingBroker(t)
		expect := func(when string, want ...map[string]int) {
			t.Helper()
			got := log.reported()
			ok := len(got) == len(want)
			for i := range min(len(got), len(want)) {
				ok = ok && maps.Equal(got[i], want[i])
			}
			if !ok {
				t.Errorf("%s: reported %v, want %v", when, got, want)
			}
		}
		wait := func(n int) {
			time.Sleep(time.Duration(n) * reportEvery)
			synctest.Wait()
		}
		a := subscribe(t, b, Start{}, "a", "b")
		subscribe(t, b, Start{}, "a")
		wait(1)
		expect("at first", map[string]int{"a": 2, "b": 1})
		wait(3)
		expect("without a change")

		log.fail(nil, errors.New("no route"))
		a.Close()
		wait(2)
		expect("not taken", map[string]int{"a": 1, "b": 0}, map[string]int{"a": 1, "b": 0})
		subscribe(t, b, Start{}, "b")
		short := subscribe(t, b, Start{}, "c")
		wait(1)
		expect("changed meanwhile", map[string]int{"a": 1, "b": 1, "c": 1})
		short.Close()
		subscribe(t, b, Start{}, "d").Close() // the log never heard of it
		wait(1)
		expect("changed again", map[string]int{"a": 1, "b": 1, "c": 0})
		out.expect(t, "failing", `level=WARN msg="reporting to other nodes`)

		log.fail(nil, nil)
		wait(1)
		expect("taken", map[string]int{"a": 1, "b": 1, "c": 0})
		wait(3)
		expect("afterwards")
		out.expect(t, "working again", `level=INFO msg="reporting to other nodes how many readers there are succeeds again" after=8s`)
		if n := len(b.reports.known); n != 2 {
			t.Errorf("%d channels are known to the log, want 2", n)
		}
	})
}

func TestReadersAreReportedWhenTheLogIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log, _ := failingBroker(t)
		loaded := b.standing.Load()
		subscribe(t, b, Start{}, "a")
		b.standing.Store(&standing{})
		time.Sleep(3 * reportEvery)
		synctest.Wait()
		if got := log.reported(); len(got) > 0 {
			t.Errorf("reported %v while it is loaded", got)
		}
		b.standing.Store(loaded)
		time.Sleep(reportEvery)
		synctest.Wait()
		if got := log.reported(); len(got) != 1 || !maps.Equal(got[0], map[string]int{"a": 1}) {
			t.Errorf("reported %v", got)
		}
	})
}

func TestRemovalsThatFailAreSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log, out := failingBroker(t)
		publishAll(t, b, set("a", "1"))
		log.fail(ErrUnavailable, nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if b.State("a").Value == nil {
			t.Fatal("the value is gone")
		}
		out.expect(t, "failing", `level=ERROR msg="removing expired values fails: trying again until it succeeds"`)
		log.fail(nil, nil)
		time.Sleep(2 * expiryRetry)
		synctest.Wait()
		if b.State("a").Value != nil {
			t.Error("the value is there")
		}
		out.expect(t, "working again", `level=INFO msg="removing expired values succeeds again"`)
	})
}

func TestAReasonOfAnOutageIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, out := failingBroker(t)
		f := &follower{b: b, started: true, first: make(chan struct{})}
		for range 20 {
			f.Cut(errors.New("refused"))
			f.Cut(errors.New("no route"))
		}
		out.expect(t, "cut", `level=ERROR msg="the log is out of reach" loaded=true error=refused`, `level=ERROR msg="the log is out of reach" loaded=true error="no route"`)
		for i := range 100 {
			f.Cut(errors.New(strings.Repeat("x", i+1)))
		}
		if n := len(out.lines()); n != maxReasons-2 {
			t.Errorf("%d more reasons were logged", n)
		}
		f.Ready()
		f.Cut(errors.New("refused"))
		out.expect(t, "cut again", `level=INFO msg="the log is in reach again"`, `level=ERROR msg="the log is out of reach"`)
	})
}
