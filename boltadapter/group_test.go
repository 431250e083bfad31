package boltadapter

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// heldSync is a disk in memory whose next sync waits, once it is held.
type heldSync struct {
	*memDisk
	held         atomic.Bool
	begun, ready chan struct{}
}

func (d *heldSync) Create(path string) (file, error) {
	f, err := d.memDisk.Create(path)
	return heldFile{f, d}, err
}

func (d *heldSync) Open(path string) (file, error) {
	f, err := d.memDisk.Open(path)
	return heldFile{f, d}, err
}

type heldFile struct {
	file
	disk *heldSync
}

func (f heldFile) Sync() error {
	if f.disk.held.CompareAndSwap(true, false) {
		close(f.disk.begun)
		<-f.disk.ready
	}
	return f.file.Sync()
}

// TestCommitsGatherWhileTheLastOneRuns: whoever comes while a commit is being synced is in the
// next one, all together; and a lone publisher is in one of its own.
func TestCommitsGatherWhileTheLastOneRuns(t *testing.T) {
	t.Parallel()
	files := &heldSync{memDisk: newMemDisk(), begun: make(chan struct{}), ready: make(chan struct{})}
	l := openOn(t, testConfig(tempLog(t)), files)
	follow(t, l)
	appended(t, l, event("a", "alone"))
	appended(t, l, event("a", "alone again"))
	if n := l.Stats().Commits; n != 2 {
		t.Errorf("two publishes one after the other are %d commits", n)
	}
	files.held.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { appended(t, l, event("a", "first")) })
	<-files.begun
	for i := range 50 {
		wg.Go(func() { appended(t, l, event("a", fmt.Sprint(i))) })
	}
	eventually(t, "all others to wait", func() bool { return l.queue.Ops() == 50 })
	close(files.ready)
	wg.Wait()
	if s := l.Stats(); s.Commits != 4 || s.Syncs != 4 || s.Entries != 53 {
		t.Errorf("%d entries are %d commits with %d syncs, want 53, 4 and 4", s.Entries, s.Commits, s.Syncs)
	}
}

// TestHowLongPublishersWait: not at all by default; with a time between syncs, until that has
// passed since the last commit.
func TestHowLongPublishersWait(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{0, 500 * time.Millisecond} {
		cfg := testConfig(tempLog(t))
		cfg.SyncEvery = every
		synctest.Test(t, func(t *testing.T) {
			l, err := newLog(cfg, newMemDisk(), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			took := func(n int) time.Duration {
				began := time.Now()
				var wg sync.WaitGroup
				for range n {
					wg.Go(func() {
						if _, err := l.Append(context.Background(), []broker.Op{event("a", "x")}); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				return time.Since(began)
			}
			if d := took(1); d != 0 {
				t.Errorf("every %s: the first one waits %s", every, d)
			}
			commits := l.Stats().Commits
			if d := took(20); d != every {
				t.Errorf("every %s: the next ones wait %s", every, d)
			}
			if n := l.Stats().Commits - commits; every > 0 && n != 1 {
				t.Errorf("every %s: they are %d commits", every, n)
			}
			time.Sleep(2 * time.Second)
			if d := took(1); d != 0 {
				t.Errorf("every %s: one that comes later waits %s", every, d)
			}
		})
	}
}

func TestALogThatDoesNotSyncWarns(t *testing.T) {
	t.Parallel()
	cfg := testConfig(tempLog(t))
	cfg.NoSync = true
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	files := newMemDisk()
	l := openOn(t, cfg, files)
	appended(t, l, event("a", "1"))
	before := files.count()
	appended(t, l, event("a", "2"))
	if ops := files.ops[before:]; len(ops) != 1 || ops[0].kind != "write" || l.Stats().Syncs != 0 {
		t.Errorf("a commit does %d operations", len(ops))
	}
	if text := log.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, "when the machine stops, events are lost that were acknowledged") {
		t.Errorf("it says %q", text)
	}
}

// TestSegmentsAreClosedByEntriesAndBytes: the next one begins with the commit after that.
func TestSegmentsAreClosedByEntriesAndBytes(t *testing.T) {
	t.Parallel()
	l := openOn(t, testConfig(tempLog(t)), newMemDisk())
	many := make([]broker.Op, maxCommit)
	for i := range many {
		many[i] = event("a", "x")
	}
	for range segmentEntries / maxCommit {
		appended(t, l, many...)
	}
	if n := l.Stats().Segments; n != 1 {
		t.Errorf("%d entries are %d segments", segmentEntries, n)
	}
	large := event("a", strings.Repeat("x", 1<<20))
	for range segmentBytes/(1<<20) + 1 { // the first one is in a segment of its own
		appended(t, l, large)
	}
	if s := l.Stats(); s.Segments != 3 || s.SegmentBytes > 2*segmentBytes+4<<20 {
		t.Errorf("with %d MiB there are %d segments of %d bytes", segmentBytes>>20+1, s.Segments, s.SegmentBytes)
	}
}

// TestSegmentsAreRemovedInSteps: one round of upkeep removes a bounded number.
func TestSegmentsAreRemovedInSteps(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	for range 2*maxDropped + 3 {
		appended(t, l, aged("a", "x", time.Minute))
		l.nextSegment()
	}
	c.add(10 * time.Minute)
	l.upkeep.Lock()
	err := l.checkpoint(false)
	l.upkeep.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	before := l.Stats().Dropped
	if err := l.round(); err != nil {
		t.Fatal(err)
	}
	if n := l.Stats().Dropped - before; n == 0 || n > 2*maxDropped { // a round of the ticker may have come between
		t.Errorf("one round removes %d segments", n)
	}
	tidy(t, l)
	if n := l.Stats().Segments; n != 0 {
		t.Errorf("%d are left", n)
	}
}
