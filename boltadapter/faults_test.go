package boltadapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// appendFails appends one operation, which must fail with want.
func appendFails(t *testing.T, l *Log, op broker.Op, want error) error {
	t.Helper()
	_, err := l.Append(context.Background(), []broker.Op{op})
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	return err
}

func TestFailedSyncIsUncertainAndPoisons(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	l := openOn(t, testConfig(tempLog(t)), files)
	c := follow(t, l)
	first := appended(t, l, keyed(event("a", "1"), "k"), set("v", "1"))
	var bad atomic.Bool
	files.fail = func(op diskOp) (int, error) {
		if op.kind == "sync" && bad.Load() {
			return 0, syscall.EIO
		}
		return 0, nil
	}
	bad.Store(true)
	appendFails(t, l, event("a", "2"), broker.ErrUncertain)
	bad.Store(false) // a later sync that succeeds proves nothing
	err := appendFails(t, l, event("a", "3"), broker.ErrUnavailable)
	appendFails(t, l, keyed(event("a", "1"), "k"), broker.ErrUnavailable)
	if !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("the reason is %q", err)
	}
	if s := l.Stats(); s.Failed == nil || s.Full != nil {
		t.Errorf("the figures say %v and %v", s.Failed, s.Full)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Errorf("Sync: %v: what was applied can be read", err)
	}
	c.mu.Lock()
	cuts := c.cuts
	c.mu.Unlock()
	if len(cuts) != 2 || cuts[1] == nil {
		t.Errorf("the follower was told %v", cuts)
	}
	if got, want := c.texts(), []string{"1", "v=1"}; !slices.Equal(got, want) {
		t.Errorf("applied %q, want %q", got, want)
	}
	l.crash()

	// What it had is there; the event whose outcome is unknown may be.
	l = openOn(t, testConfig(l.path), files.clone())
	c = follow(t, l)
	if got := c.texts(); !slices.Equal(got[:2], []string{"1", "v=1"}) || len(got) > 3 {
		t.Errorf("opened again: %q", got)
	}
	if r := appended(t, l, keyed(event("a", "1"), "k")); !r[0].Repeated || r[0].ID != first[0].ID {
		t.Errorf("the key gives %+v", r[0])
	}
}

// TestFullDiskRefusesAndRecovers: nothing of what was refused is there later, neither
// events nor values nor keys, however much of it was written.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	for _, part := range []int{0, 1, 31, 40, 100, 1 << 20} {
		for _, kind := range []string{"write", "create"} {
			t.Run(fmt.Sprint(kind, " ", part), func(t *testing.T) {
				t.Parallel()
				files := newMemDisk()
				l := openOn(t, testConfig(tempLog(t)), files)
				c := follow(t, l)
				if kind == "write" {
					appended(t, l, keyed(event("a", "1"), "k"), set("v", "1"))
				}
				var full atomic.Bool
				var writes atomic.Int32
				files.fail = func(op diskOp) (int, error) {
					// The first chain of a commit may succeed, and the second fail.
					if full.Load() && op.kind == kind && writes.Add(1)%2 == 0 {
						return min(part, len(op.data)), &writeError{syscall.ENOSPC}
					}
					return 0, nil
				}
				full.Store(true)
				refused := []broker.Op{keyed(event("a", "2"), "l"), set("v", "2"), set("w", "2"), event("a", "3")}
				failed := false
				for range 2 {
					_, err := l.Append(t.Context(), refused)
					failed = failed || err != nil
					if err != nil && !errors.Is(err, broker.ErrFull) {
						t.Fatalf("got %v", err)
					}
				}
				if !failed || l.Stats().Failed != nil {
					t.Fatalf("nothing failed, or for good: %v", l.Stats().Failed)
				}
				full.Store(false)
				before := len(c.texts())
				results := appended(t, l, refused...)
				if n := len(c.texts()) - before; n != 4 && n != 1 {
					t.Errorf("%d entries were applied: %+v", n, results)
				}
				if l.Stats().Full != nil {
					t.Errorf("it is full: %v", l.Stats().Full)
				}
				want := c.texts()
				l.crash()
				l = openOn(t, testConfig(l.path), files.clone())
				if got := follow(t, l).texts(); !slices.Equal(got, want) {
					t.Errorf("opened again: %q, want %q", got, want)
				}
			})
		}
	}
}

type writeError struct{ err error }

func (e *writeError) Error() string { return "write: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// TestRefusedWriteLeavesNothing looks at a log that could not write once, with one
// operation: a value, a key and an event of it are as if nobody had asked.
func TestRefusedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	l := openOn(t, testConfig(tempLog(t)), files)
	c := follow(t, l)
	appended(t, l, set("v", "1"))
	var full atomic.Bool
	files.fail = func(op diskOp) (int, error) {
		if full.Load() && op.kind == "write" {
			return len(op.data) / 2, syscall.ENOSPC
		}
		return 0, nil
	}
	full.Store(true)
	for _, op := range []broker.Op{set("v", "2"), set("v", ""), set("w", "1"), set("v", "1.0"), keyed(event("a", "x"), "k"), keyed(set("v", "3"), "m")} {
		appendFails(t, l, op, broker.ErrFull)
	}
	full.Store(false)
	never := set("v", "9")
	never.State.If = broker.Condition{Kind: broker.IfNever}
	results, err := l.Append(t.Context(), []broker.Op{never})
	if err != nil || results[0].State == nil || string(results[0].State.Value) != "1" {
		t.Errorf("the value is %+v, %v", results, err)
	}
	if r := appended(t, l, keyed(event("a", "y"), "k"), keyed(event("a", "z"), "m"), set("w", "2")); r[0].Repeated || r[1].Repeated || !r[2].Created {
		t.Errorf("what was refused is remembered: %+v", r)
	}
	if got, want := c.texts(), []string{"v=1", "y", "z", "w=2"}; !slices.Equal(got, want) {
		t.Errorf("applied %q, want %q", got, want)
	}
}

func TestWriteThatCannotBeTakenBackPoisons(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	l := openOn(t, testConfig(tempLog(t)), files)
	follow(t, l)
	appended(t, l, event("a", "1"))
	var bad atomic.Bool
	files.fail = func(op diskOp) (int, error) {
		if bad.Load() && (op.kind == "write" || op.kind == "truncate") {
			return len(op.data), syscall.ENOSPC
		}
		return 0, nil
	}
	bad.Store(true)
	appendFails(t, l, event("a", "2"), broker.ErrUncertain)
	bad.Store(false)
	appendFails(t, l, event("a", "3"), broker.ErrUnavailable)
}

// TestOtherWriteErrorsRefuse: what was written is removed, so that the outcome is known. The
// operator is told when it begins and when it ends.
func TestOtherWriteErrorsRefuse(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	cfg := testConfig(tempLog(t))
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	l := openOn(t, cfg, files)
	c := follow(t, l)
	var bad atomic.Bool
	files.fail = func(op diskOp) (int, error) {
		if bad.Load() && op.kind == "write" {
			return len(op.data) / 2, syscall.EIO
		}
		return 0, nil
	}
	bad.Store(true)
	for range 2 {
		err := appendFails(t, l, event("a", "1"), broker.ErrUnavailable)
		var told interface{ ProblemDetail() string }
		if errors.Is(err, broker.ErrFull) || !errors.As(err, &told) || told.ProblemDetail() != "the disk of the log refuses to be written: nothing was stored" {
			t.Errorf("got %v", err)
		}
	}
	if s := l.Stats(); s.Full == nil || s.Failed != nil {
		t.Errorf("the figures say %v and %v", s.Full, s.Failed)
	}
	bad.Store(false)
	appended(t, l, event("a", "2"))
	if got := c.texts(); !slices.Equal(got, []string{"2"}) {
		t.Errorf("applied %q", got)
	}
	if s := l.Stats(); s.Full != nil {
		t.Errorf("the figures say %v", s.Full)
	}
	_ = c.end()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the log cannot be written", "the log can be written again"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q is logged %d times: %s", want, n, &log)
		}
	}
}

func TestMaxSizeRefusesBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	cfg := testConfig(tempLog(t))
	cfg.MaxSize, cfg.Retain = MinSize, MinRetain
	l := openLog(t, cfg)
	follow(t, l)
	data := strings.Repeat("x", 4<<20)
	var err error
	for n := 0; err == nil; n++ {
		if n > 20 {
			t.Fatal("the bound was not kept")
		}
		_, err = l.Append(t.Context(), []broker.Op{keyed(event("a", data), fmt.Sprint(n))}) // keys keep the segments
	}
	if s := l.Stats(); !errors.Is(err, broker.ErrFull) || s.Size > MinSize || s.Full == nil {
		t.Errorf("got %v with %d bytes", err, s.Size)
	}
	cfg.MaxSize = 0
	if err := l.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	appended(t, l, event("a", "more"))
}
