package boltadapter

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// awaitRoom waits until upkeep has found room.
func awaitRoom(t *testing.T, l *Log) {
	t.Helper()
	looks, patience := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer looks.Stop()
	for l.Health().Room != nil {
		l.kickUpkeep()
		select {
		case <-looks.C:
		case <-patience:
			t.Fatalf("there is room, and it says: %v", l.Health().Room)
		}
	}
}

// TestRoomIsFoundWithoutAPublisher: where a load balancer sends publishers elsewhere,
// nobody tries.
func TestRoomIsFoundWithoutAPublisher(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	cfg := testConfig(tempLog(t))
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	l := openOn(t, cfg, files)
	follow(t, l)
	appended(t, l, event("a", "1"))
	if h := l.Health(); h != (broker.Health{}) {
		t.Fatalf("at first: %+v", h)
	}
	var room atomic.Int64
	files.fail = func(op diskOp) (int, error) {
		if n := int(room.Load()); op.kind == "write" && op.offset+int64(len(op.data)) > int64(n) {
			return min(len(op.data), 10), syscall.ENOSPC
		}
		return 0, nil
	}
	large := strings.Repeat("x", 100<<10)
	appendFails(t, l, event("a", large), broker.ErrFull)
	for _, few := range []int64{0, minRoom, 100 << 10} { // less than what was refused
		room.Store(few)
		if l.lookForRoom(); !errors.Is(l.Health().Room, syscall.ENOSPC) {
			t.Errorf("with %d bytes: %v", few, l.Health().Room)
		}
	}
	room.Store(1 << 20)
	awaitRoom(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if paths := files.paths(); slices.ContainsFunc(paths, func(p string) bool { return strings.Contains(p, roomFile) }) {
		t.Errorf("a file is left of the attempts: %q", paths)
	}
	if n := strings.Count(log.String(), `msg="the log can be written again"`); n != 1 {
		t.Errorf("that there is room is logged %d times", n)
	}
}

func TestRoomBeneathMaxSizeIsFoundWithoutAPublisher(t *testing.T) {
	t.Parallel()
	cfg := testConfig(tempLog(t))
	cfg.MaxSize, cfg.Retain = MinSize, MinRetain
	l := openLog(t, cfg)
	follow(t, l)
	data := strings.Repeat("x", 4<<20)
	for n := 0; l.Health().Room == nil; n++ {
		if n > 20 {
			t.Fatal("the bound was not kept")
		}
		_, _ = l.Append(t.Context(), []broker.Op{keyed(event("a", data), fmt.Sprint(n))}) // keys keep the segments
	}
	if l.lookForRoom(); l.Health().Room == nil {
		t.Error("the directory is as full as before, and said to have room")
	}
	cfg.MaxSize = 2 * MinSize
	if err := l.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	awaitRoom(t, l)
}

func TestAFailedDiskIsTold(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	l := openOn(t, testConfig(tempLog(t)), files)
	b, err := broker.New(l, broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	appended(t, l, event("a", "1"))
	files.fail = func(op diskOp) (int, error) {
		if op.kind == "sync" {
			return 0, syscall.EIO
		}
		return 0, nil
	}
	appendFails(t, l, event("a", "2"), broker.ErrUncertain)
	if h := b.Health(); !errors.Is(h.Failed, syscall.EIO) || h.Room != nil || h.Reach == nil || h.Loading != nil {
		t.Errorf("the broker says %+v", h)
	}
}
