package boltadapter

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// fullDisk is the disk of the system, on which no file can be made.
type fullDisk struct{ disk }

func (fullDisk) Create(path string) (file, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: syscall.ENOSPC}
}

// TestChainThatWasNeverBegunIsNoDamage: its directory is left of a first commit for which
// there was no room, or during which the process was killed.
func TestChainThatWasNeverBegunIsNoDamage(t *testing.T) {
	t.Parallel()
	l, err := newLog(testConfig(tempLog(t)), fullDisk{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	appendFails(t, l, event("a", "no room"), broker.ErrFull)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.path, "segments", "*")); len(left) != 1 {
		t.Fatalf("left %v", left)
	}
	l = openLog(t, testConfig(l.path))
	follow(t, l)
	appended(t, l, event("a", "room"))
}
