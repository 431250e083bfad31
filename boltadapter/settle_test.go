package boltadapter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// TestWhatWasFoundIsMadeDurable: a process that was killed may have left a commit that only
// the system has. It is served when the log is opened, and answers its key, so it must not be
// lost by a power cut after that.
func TestWhatWasFoundIsMadeDurable(t *testing.T) {
	t.Parallel()
	files := newMemDisk()
	dir := tempLog(t)
	l := openOn(t, testConfig(dir), files)
	follow(t, l)
	appended(t, l, event("a", "1"))
	files.fail = func(op diskOp) (int, error) {
		if op.kind == "sync" {
			return 0, syscall.EIO // it is killed here
		}
		return 0, nil
	}
	appendFails(t, l, keyed(event("a", "2"), "k"), broker.ErrUncertain)
	l.crash()
	files.fail = nil
	l = openOn(t, testConfig(dir), files)
	follow(t, l)
	if r := appended(t, l, keyed(event("a", "2"), "k")); !r[0].Repeated {
		t.Fatalf("it is not there: %+v", r)
	}
	tidy(t, l) // the mark has it, too
	l.crash()
	for seed := range 20 {
		cut := powerCut(nil, files.ops, len(files.ops), seeded(seed))
		_, c, _, err := readBack(cut, dir, filepath.Join(dir, "meta.db"))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.texts()); got != "[1 2]" {
			t.Fatalf("after a power cut: %s", got)
		}
	}
}

// TestLogThatWasMadeInPartIsMadeWhole: power was cut while it was made, and the disk has its
// meta.db, but not the directory of its segments. That must be durable before anything in it.
func TestLogThatWasMadeInPartIsMadeWhole(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	openLog(t, testConfig(dir)).crash()
	segments := filepath.Join(dir, "segments")
	if err := os.Remove(segments); err != nil {
		t.Fatal(err)
	}
	var synced []string
	l := openOn(t, testConfig(dir), syncedDirs{list: &synced})
	if !slices.Contains(synced, dir) || !slices.Contains(synced, segments) {
		t.Errorf("synced are %q", synced)
	}
	appended(t, l, event("a", "1"))
}
