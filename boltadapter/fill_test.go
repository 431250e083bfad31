package boltadapter

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// openFilling opens a log that fills its segments in steps of these bounds; with 0 they
// grow, as those of versions before did.
func openFilling(t testing.TB, cfg Config, files fileSystem, now func() time.Time, least, most int64) *Log {
	t.Helper()
	l, err := newLog(cfg, files, now)
	if err != nil {
		t.Fatal(err)
	}
	l.filler.least, l.filler.most = least, most
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// sizesHold checks what a log says of the files of its segments.
func sizesHold(t testing.TB, l *Log) {
	t.Helper()
	l.committing.Lock()
	defer l.committing.Unlock()
	total := int64(0)
	for _, c := range l.chains {
		for i, s := range c.segments {
			f, err := l.disk.Open(s.path)
			if err != nil {
				t.Fatal(err)
			}
			size, _ := f.Size()
			b, err := readFile(f, make([]byte, size))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			total += size
			if err != nil || size != s.end || size < s.size || !isFill(b[s.size:]) || size > s.size && i < len(c.segments)-1 {
				t.Fatalf("%s has %d bytes (%v), %d of frames and %d in all", s.path, size, err, s.size, s.end)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := l.size; got != total {
		t.Fatalf("the segments have %d bytes, and it says %d", total, got)
	}
}

func filledBytes(l *Log) (n int64) {
	l.committing.Lock()
	defer l.committing.Unlock()
	for _, c := range l.chains {
		for _, s := range c.segments {
			n += s.end - s.size
		}
	}
	return n
}

func TestFillIsOnlyFill(t *testing.T) {
	t.Parallel()
	for b, want := range map[string]bool{"": true, "\xe5": true, "\xe5\xe5\xe5": true, "\xe5\xe5\x00": false, "\x00\xe5": false, "\x00\x00": false, "\xe5\xe4\xe5": false} {
		if isFill([]byte(b)) != want {
			t.Errorf("%q: want %v", b, want)
		}
	}
}

func TestStepsOfFill(t *testing.T) {
	t.Parallel()
	f, now := newFiller(), time.Now()
	for _, tt := range []struct{ end, frame, room, want int64 }{
		{300, 200, 1 << 40, 64 << 10},                            // up to a whole page
		{200 << 10, 200, 1 << 40, 400 << 10},                     // as much again
		{5<<20 + 100, 200, 1 << 40, 6 << 20},                     // at most 1 MiB
		{5 << 20, fillFrames + 1, 1 << 40, 5 << 20},              // a large frame
		{segmentBytes - 5000, 200, 1 << 40, segmentBytes},        // not beyond the size of a segment
		{segmentBytes + 5000, 200, 1 << 40, segmentBytes + 5000}, // what is the last frame
		{300, 200, 64 << 10, 64 << 10},
		{300, 200, 60 << 10, 300}, // there is no room
		{300, 200, 0, 300},
	} {
		if got := f.next(tt.end, tt.frame, tt.room, now); got != tt.want {
			t.Errorf("a frame of %d bytes that ends at %d, room for %d: filled to %d, want %d", tt.frame, tt.end, tt.room, got, tt.want)
		}
	}
	f.after = now.Add(time.Second)
	if got := f.next(300, 200, 1<<40, now); got != 300 {
		t.Errorf("in the pause it fills to %d", got)
	}
}

// TestFilesAreFilledAndGiveItBack: a log that runs has fill, which no segment has that is
// finished, nor a log that is closed, a backup, or what is restored of it.
func TestFilesAreFilledAndGiveItBack(t *testing.T) {
	t.Parallel()
	l := openLog(t, testConfig(tempLog(t)))
	c := follow(t, l)
	fill(t, l, 3)
	if n := filledBytes(l); n < leastFill || n > 2*leastFill+fillPage {
		t.Errorf("%d bytes are filled", n)
	}
	sizesHold(t, l)
	var backup bytes.Buffer
	if err := l.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(backup.Bytes(), []byte{fillByte, fillByte, fillByte, fillByte}) {
		t.Error("the backup has fill")
	}
	l.nextSegment()
	fill(t, l, 1)
	sizesHold(t, l) // also that what is finished has none
	want := c.texts()
	l.crash()
	report, err := Check(l.path)
	if err != nil || len(report.Torn) > 0 || report.Entries != 11 {
		t.Errorf("after a crash it is checked: %+v, %v", report, err)
	}
	l = openLog(t, testConfig(l.path))
	if got := follow(t, l).texts(); !slices.Equal(got, want) {
		t.Errorf("after a crash there is %q, want %q", got, want)
	}
	if n := filledBytes(l); n < leastFill {
		t.Errorf("%d bytes are filled when it is opened again", n)
	}
	sizesHold(t, l)
	fill(t, l, 1)
	sizesHold(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(l.path, "segments", "*", "*.log"))
	if err != nil || len(paths) != 4 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		if b, err := os.ReadFile(path); err != nil || len(b) > 2000 {
			t.Errorf("%s has %d bytes, %v", path, len(b), err)
		}
	}
	restored := tempLog(t)
	if _, err := Restore(&backup, restored); err != nil {
		t.Fatal(err)
	}
	sizesHold(t, openLog(t, testConfig(restored)))
}

// TestFilesOfVersionsBeforeAreFilled: these grow, and have been closed or not.
func TestFilesOfVersionsBeforeAreFilled(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		l := openFilling(t, testConfig(tempLog(t)), disk{}, time.Now, 0, 0)
		c := follow(t, l)
		fill(t, l, 3)
		if n := filledBytes(l); n != 0 {
			t.Fatalf("%d bytes are filled", n)
		}
		want := c.texts()
		if closed {
			_ = c.end()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		} else {
			l.crash()
		}
		for range 2 {
			l = openLog(t, testConfig(l.path))
			c = follow(t, l)
			if got := c.texts(); !slices.Equal(got, want) {
				t.Errorf("there is %q, want %q", got, want)
			}
			fill(t, l, 1)
			if n := filledBytes(l); n < leastFill {
				t.Errorf("%d bytes are filled", n)
			}
			sizesHold(t, l)
			want = c.texts()
			l.crash()
		}
	}
}

// TestDiskWithRoomForAFrameOnly: what cannot be filled is no error of the commit, and is
// given back. The files grow for a while.
func TestDiskWithRoomForAFrameOnly(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	var now clock
	l := openFilling(t, testConfig(tempLog(t)), files, now.now, 512, 2048)
	c := follow(t, l)
	var room atomic.Int64
	tries := 0
	room.Store(500)
	files.fail = func(op diskOp) (int, error) {
		if op.kind == "write" && op.data[0] == fillByte {
			tries++
		}
		if over := op.offset + int64(len(op.data)) - room.Load(); op.kind == "write" && over > 0 {
			return max(len(op.data)-int(over), 0), syscall.ENOSPC
		}
		return 0, nil
	}
	appended(t, l, event("a", "1"))
	appended(t, l, event("a", "2"))
	if n := filledBytes(l); n != 0 || tries != 1 {
		t.Errorf("%d bytes are filled, which was tried %d times", n, tries)
	}
	sizesHold(t, l)
	appendFails(t, l, event("a", strings.Repeat("x", 500)), broker.ErrFull)
	sizesHold(t, l)
	room.Store(1 << 20)
	now.add(fillPause / 2)
	appended(t, l, event("a", "3"))
	if n := filledBytes(l); n != 0 {
		t.Errorf("%d bytes are filled in the pause", n)
	}
	now.add(fillPause)
	appended(t, l, event("a", "4"))
	if n := filledBytes(l); n < 512 {
		t.Errorf("%d bytes are filled when there is room again", n)
	}
	sizesHold(t, l)
	want := c.texts()
	l.crash()
	if got := follow(t, openOn(t, testConfig(l.path), files)).texts(); !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

// TestMaxSizeBoundsWhatIsFilled: the directory is never larger, and what fits into what is
// filled needs no room.
func TestMaxSizeBoundsWhatIsFilled(t *testing.T) {
	t.Parallel()
	cfg := testConfig(tempLog(t))
	cfg.MaxSize, cfg.Retain = MinSize, MinRetain
	l := openLog(t, cfg)
	follow(t, l)
	appended(t, l, event("a", "1"))
	l.upkeep.Lock() // so that nobody measures it
	defer l.upkeep.Unlock()
	l.mu.Lock()
	l.dbSize += MinSize - l.size - l.dbSize // others have what is left
	l.mu.Unlock()
	if s := l.Stats(); s.Size != MinSize {
		t.Fatalf("the directory has %d bytes", s.Size)
	}
	for n := 0; ; n++ {
		_, err := l.Append(t.Context(), []broker.Op{event("a", strings.Repeat("x", 1000))})
		if err != nil {
			if n < 50 || l.Stats().Full == nil || filledBytes(l) > 1200 {
				t.Errorf("refused after %d, with %d filled: %v", n, filledBytes(l), err)
			}
			break
		}
		if s := l.Stats(); s.Size > MinSize {
			t.Fatalf("the directory has %d bytes", s.Size)
		}
	}
	l.mu.Lock()
	l.dbSize -= 1100 // room for a frame, and for no step
	l.mu.Unlock()
	appended(t, l, event("a", strings.Repeat("x", 1000)))
	if n := filledBytes(l); n > 1200 {
		t.Errorf("%d bytes are filled", n)
	}
}

// TestTheChainsOfACommitShareTheRoom: what is filled behind one file is not there for the
// next.
func TestTheChainsOfACommitShareTheRoom(t *testing.T) {
	t.Parallel()
	cfg := testConfig(tempLog(t))
	cfg.MaxSize, cfg.Retain = MinSize, MinRetain
	l := openLog(t, cfg)
	follow(t, l)
	l.upkeep.Lock() // so that nobody measures it
	defer l.upkeep.Unlock()
	l.mu.Lock()
	l.dbSize = MinSize - l.size - 3*leastFill/2 // room for one step, and not for two
	l.mu.Unlock()
	appended(t, l, event("a", "1"), set("v", "1"))
	if n := filledBytes(l); n == 0 || n > leastFill {
		t.Errorf("%d bytes are filled behind two files", n)
	}
	if s := l.Stats(); s.Size > MinSize {
		t.Errorf("the directory has %d bytes", s.Size)
	}
}

func TestNothingIsFilledWithoutSync(t *testing.T) {
	t.Parallel()
	cfg := testConfig(tempLog(t))
	cfg.NoSync = true
	l := openLog(t, cfg)
	follow(t, l)
	fill(t, l, 3)
	if n := filledBytes(l); n != 0 {
		t.Errorf("%d bytes are filled", n)
	}
}

// TestSegmentIsDurableBeforeTheNextBegins: it is synced without fill, and so are those that
// were written without a sync.
func TestSegmentIsDurableBeforeTheNextBegins(t *testing.T) {
	t.Parallel()
	for _, noSync := range []bool{false, true} {
		cfg := testConfig(tempLog(t))
		cfg.NoSync = noSync
		files := newMemDisk()
		l := openOn(t, cfg, files)
		follow(t, l)
		appended(t, l, event("a", "1"))
		l.nextSegment()
		before := files.count()
		appended(t, l, event("a", "2"))
		var kinds []string
		for _, op := range files.ops[before:] {
			if strings.HasSuffix(op.path, "1.log") || op.kind == "create" {
				kinds = append(kinds, op.kind)
			}
		}
		want := []string{"truncate", "sync", "create"}
		if noSync {
			want = want[1:]
		}
		if !slices.Equal(kinds, want) {
			t.Errorf("without sync %v: %q, want %q", noSync, kinds, want)
		}
	}
}

// TestFailureToFinishASegment: what cannot be cut is tried again with the next commit; after
// a sync that failed nothing is stored.
func TestFailureToFinishASegment(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]error{"truncate": broker.ErrUnavailable, "sync": broker.ErrUnavailable} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			files := newMemDisk()
			l := openOn(t, testConfig(tempLog(t)), files)
			c := follow(t, l)
			appended(t, l, event("a", "1"))
			l.nextSegment()
			files.fail = func(op diskOp) (int, error) {
				if op.kind == kind {
					return 0, syscall.EIO
				}
				return 0, nil
			}
			appendFails(t, l, event("a", "2"), want)
			files.fail = nil
			if _, err := l.Append(t.Context(), []broker.Op{event("a", "3")}); (err == nil) != (kind == "truncate") {
				t.Errorf("the next one: %v", err)
			}
			if l.Stats().Failed == nil {
				sizesHold(t, l)
			}
			texts := c.texts()
			l.crash()
			if got := follow(t, openOn(t, testConfig(l.path), files)).texts(); !slices.Equal(got, texts) {
				t.Errorf("opened again: %q, want %q", got, texts)
			}
		})
	}
}

// TestLogThatCannotBeTrimmedIsNotCalledClosed: it opens again, as after a crash.
func TestLogThatCannotBeTrimmedIsNotCalledClosed(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	l := openOn(t, testConfig(tempLog(t)), files)
	c := follow(t, l)
	fill(t, l, 2)
	_ = c.end()
	files.fail = func(op diskOp) (int, error) {
		if op.kind == "truncate" {
			return 0, syscall.EIO
		}
		return 0, nil
	}
	if err := l.Close(); err == nil {
		t.Error("it says that it is closed")
	}
	files.fail = nil
	want := c.texts()
	l = openOn(t, testConfig(l.path), files)
	if got := follow(t, l).texts(); !slices.Equal(got, want) {
		t.Errorf("opened again: %q, want %q", got, want)
	}
	sizesHold(t, l)
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
