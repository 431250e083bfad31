package boltadapter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// TestPowerCutLosesNothingThatWasAcknowledged records what a log writes, and opens it as
// the disk may be after each operation: with all that was synced, and any part of the
// rest, in any order.
func TestPowerCutLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	files := newMemDisk()
	l := openFilling(t, testConfig(dir), files, time.Now, 100, 700)
	c := follow(t, l)

	// acked is what was acknowledged, by how many operations of the disk came before.
	type acked struct {
		ops   int
		texts []string
	}
	type version struct {
		ops  int
		path string
	}
	var acks []acked
	var versions []version
	save := func() { // meta.db is written by upkeep only
		l.upkeep.Lock()
		defer l.upkeep.Unlock()
		b, err := os.ReadFile(filepath.Join(dir, "meta.db"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), fmt.Sprint("meta", len(versions)))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, version{files.count(), path})
	}
	save()
	other := broker.Policy{Events: 5, Age: 2 * 3600e9, Bytes: 1 << 20}
	for i := range 40 {
		ops := []broker.Op{event("a", fmt.Sprint("e", i))}
		switch i % 4 {
		case 1:
			ops = append(ops, set("v", strconv.Itoa(i)))
		case 2: // one commit in three chains
			more := event("c", fmt.Sprint("o", i))
			more.History = other
			ops = append(ops, more, keyed(set("w", strconv.Itoa(i)), fmt.Sprint("k", i)))
		case 3:
			ops = []broker.Op{set("v", ""), keyed(event("a", strings.Repeat("x", 3000)), fmt.Sprint("k", i))}
		}
		if i%10 == 8 { // a commit of two chains is refused: the disk is full after the first
			writes := 0
			files.fail = func(op diskOp) (int, error) {
				if op.kind == "write" {
					writes++
				}
				if writes == 2 {
					writes = 0
					return len(op.data) / 2, syscall.ENOSPC
				}
				return 0, nil
			}
			_, err := l.Append(context.Background(), []broker.Op{event("a", "refused"), set("v", `"refused"`)})
			files.fail = nil
			if !errors.Is(err, broker.ErrFull) {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		if i%5 == 0 { // several in a commit
			for n := range 3 {
				wg.Go(func() { appended(t, l, event("a", fmt.Sprint("par", i, n))) })
			}
		}
		if _, err := l.Append(context.Background(), ops); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		acks = append(acks, acked{files.count(), c.texts()})
		if i%9 == 8 {
			l.upkeep.Lock()
			if err := l.checkpoint(false); err != nil {
				t.Fatal(err)
			}
			l.upkeep.Unlock()
			save()
		}
		if i == 25 { // the next commits begin segments
			l.committing.Lock()
			l.mu.Lock()
			for _, c := range l.chains {
				c.newest().entries = segmentEntries
			}
			l.mu.Unlock()
			l.committing.Unlock()
		}
	}
	all := c.texts()
	l.crash()

	r := rand.New(rand.NewPCG(3, 4))
	for n := range len(files.ops) + 1 {
		meta := versions[0]
		for _, v := range versions {
			if v.ops <= n {
				meta = v
			}
		}
		var must []string
		for _, a := range acks {
			if a.ops <= n {
				must = a.texts
			}
		}
		if n < meta.ops {
			continue
		}
		for range 4 {
			_, c, _, err := readBack(powerCut(nil, files.ops, n, r), dir, meta.path)
			if err != nil {
				t.Fatalf("after %d of %d operations: %v", n, len(files.ops), err)
			}
			got := c.texts()
			if len(got) < len(must) || !slices.Equal(got, all[:len(got)]) {
				t.Fatalf("after %d of %d operations: %d entries, %d were acknowledged:\n%.80q\nwant the beginning of\n%.80q", n, len(files.ops), len(got), len(must), got, all)
			}
			for _, e := range c.origin.States {
				if want := lastOf(got, e.Channel); want != string(e.State.Value) {
					t.Fatalf("after %d operations: %s is %s, want %s", n, e.Channel, e.State.Value, want)
				}
			}
		}
	}
}

// lastOf is the last value of a channel.
func lastOf(texts []string, channel string) (value string) {
	for _, text := range texts {
		if v, ok := strings.CutPrefix(text, channel+"="); ok {
			value = v
		}
	}
	return value
}

func (d *memDisk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ops)
}
