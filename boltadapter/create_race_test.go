package boltadapter

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestManyThatMakeALogAtOnceMakeOne: whoever opens it first has it, and the others are told
// so; nobody has a file that is not in its place.
func TestManyThatMakeALogAtOnceMakeOne(t *testing.T) {
	t.Parallel()
	for range 5 {
		dir := tempLog(t)
		var logs [4]*Log
		var errs [len(logs)]error
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range logs {
			l, err := newLog(testConfig(dir), disk{}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			logs[i] = l
			wg.Go(func() {
				<-begin
				errs[i] = l.Start()
			})
		}
		close(begin)
		wg.Wait()
		var has *Log
		for i, err := range errs {
			switch {
			case err == nil && has == nil:
				has = logs[i]
			case err == nil:
				t.Error("two have the log")
			case !errors.Is(err, ErrLocked):
				t.Errorf("one is told %v", err)
			}
		}
		if has == nil {
			t.Fatalf("nobody has the log: %v", errs)
		}
		appended(t, has, event("a", "1"), set("v", "1"))
		for _, l := range logs {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if texts := follow(t, openLog(t, testConfig(dir))).texts(); len(texts) != 2 {
			t.Errorf("the log has %q", texts)
		}
		if names := namesIn(t, dir); len(names) != 2 {
			t.Errorf("the directory has %v", names)
		}
	}
}

// TestWhatAKilledProcessLeftBesideMetaIsRemoved: what it made, compacted or backed up.
func TestWhatAKilledProcessLeftBesideMetaIsRemoved(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	l := openLog(t, testConfig(dir))
	appended(t, l, set("v", "1"))
	l.crash()
	for _, name := range []string{"meta.db.new", "meta.db.new-1234", "meta.backup", "meta.backup-99"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("of the operator"), 0o600); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, testConfig(dir))
	if got := strings.Join(namesIn(t, dir), " "); got != "README meta.db segments" {
		t.Errorf("the directory has %s", got)
	}
	if got := follow(t, l).texts(); len(got) != 1 {
		t.Errorf("the log has %q", got)
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := disk{}.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}
