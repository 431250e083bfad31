package boltadapter

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// TestCompactionLetsNobodyIn: another process that waits for the lock of the file that is
// replaced does not get it.
func TestCompactionLetsNobodyIn(t *testing.T) {
	t.Parallel()
	l := openLog(t, testConfig(tempLog(t)))
	fill(t, l, 3)
	ended := make(chan error, 1)
	go func() {
		other, err := openDB(l.metaPath(), false, false)
		if err == nil {
			_ = other.Close()
		}
		ended <- err
	}()
	for {
		if err := l.Compact(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, ErrLocked) {
				t.Errorf("a second one has the log open: %v", err)
			}
			return
		default:
		}
	}
}

// TestMarkMovesWhenTheClockGoesBack: else nothing could be removed until the clock is
// again where it was.
func TestMarkMovesWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	var c clock
	l := openAt(t, testConfig(tempLog(t)), &c)
	follow(t, l)
	appended(t, l, set("v", "1"))
	if err := l.round(); err != nil {
		t.Fatal(err)
	}
	c.add(-time.Hour)
	appended(t, l, event("a", "1"))
	for range 3 {
		c.add(markEvery)
		if err := l.round(); err != nil {
			t.Fatal(err)
		}
	}
	l.upkeep.Lock()
	defer l.upkeep.Unlock()
	l.committing.Lock()
	defer l.committing.Unlock()
	if l.mark.Commit != l.commits {
		t.Errorf("the mark is at commit %d of %d", l.mark.Commit, l.commits)
	}
}

// TestKeyOfATimeToComeHoldsNoSegment: one that was published while the clock was wrong.
func TestKeyOfATimeToComeHoldsNoSegment(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &segment{header: header{number: 1}, size: 100}
	s.noteKey(now.Add(100 * 24 * time.Hour))
	c := &chain{segments: []*segment{s}}
	row := chainMark{Number: 1, Size: 100}
	if c.oldestFree(row, now) != nil {
		t.Error("the key may still be asked for")
	}
	if c.oldestFree(row, now.Add(broker.KeyWindow)) == nil {
		t.Error("the segment is kept until a time to come")
	}
}

func TestRestoreSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	if err := os.Mkdir(dir+".restore", 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Restore(new(bytes.Buffer), dir)
	if err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir + ".restore"); err != nil {
		t.Error(err)
	}
}
