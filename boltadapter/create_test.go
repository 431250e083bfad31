package boltadapter

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// syncedDirs notes which directories are synced.
type syncedDirs struct {
	disk
	list *[]string
}

func (s syncedDirs) SyncDir(dir string) error {
	*s.list = append(*s.list, dir)
	return s.disk.SyncDir(dir)
}

// A directory is durable only when the one that it is in is synced: all that are made are.
func TestParentsThatAreMadeAreSynced(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a", "b", "log")
	var synced []string
	l, err := newLog(testConfig(path), syncedDirs{list: &synced}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, filepath.Join(root, "a"), filepath.Join(root, "a", "b")} {
		if !slices.Contains(synced, dir) {
			t.Errorf("%s is not synced, only %v", dir, synced)
		}
	}
}
