package boltadapter

import (
	"errors"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// TestUncertainCommitIsThereWholeOrNotAtAll: its sync fails in one of its two chains, and the
// mark is written after that. The disk has what was synced.
func TestUncertainCommitIsThereWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for lost := range 2 {
		dir, files := tempLog(t), newMemDisk()
		l := openOn(t, testConfig(dir), files)
		c := follow(t, l)
		appended(t, l, event("a", "1"), set("v", "1"))
		files.fail = func(op diskOp) (int, error) {
			if op.kind == "sync" {
				return 0, syscall.EIO
			}
			return 0, nil
		}
		if _, err := l.Append(t.Context(), []broker.Op{event("a", "2"), set("v", "2")}); !errors.Is(err, broker.ErrUncertain) {
			t.Fatal(err)
		}
		l.upkeep.Lock()
		err := l.checkpoint(false)
		l.upkeep.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.end()
		var size int64
		path := files.paths()[lost]
		for _, c := range l.chains {
			if s := c.newest(); s.path == path {
				size = s.size
			}
		}
		l.crash()
		files.fail = nil
		files.files[path].data = files.files[path].data[:size]
		_, c, _, err = readBack(files, dir, filepath.Join(dir, "meta.db"))
		if err != nil || !slices.Equal(c.texts(), []string{"1", "v=1"}) || string(c.origin.States[0].State.Value) != "1" {
			t.Errorf("without what %s had not synced: %q, %v, %v", path, c.texts(), c.origin.States[0].State, err)
		}
	}
}
