package boltadapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

const (
	recordEnv = "EVSTREAM_RECORD" // the directory in which a process is recorded
	// powerCutsEnv is how many states of the disk are tried for each call of the
	// recording; see `make kills`. By default only some calls have one.
	powerCutsEnv = "EVSTREAM_POWERCUTS"
)

// ack is a line of the file "acks", which the recorded process writes when something was
// acknowledged.
type ack struct {
	Texts    []string          // entries, in order: all that were applied since the last line
	Keys     map[string]string // idempotency keys of events of "a", by their data
	Opened   bool              // the log can be opened from now on
	Restored int               // the entries of the log in "restored", which is there from now on
}

// TestPowerCutOfAllFiles records, with strace, all that a process writes in the life of a log: segments,
// meta.db, and the directories, while it is made, appended to, compacted, trimmed, backed up,
// closed, opened and restored. Then it opens what the disk may have after each system call:
// all that was synced before, and any part of the rest, in any order. All that was
// acknowledged is there, and nothing that is not as it was written.
func TestPowerCutOfAllFiles(t *testing.T) {
	if dir := os.Getenv(recordEnv); dir != "" {
		recorded(t, dir)
		return
	}
	t.Parallel()
	root := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestPowerCutOfAllFiles$", "-test.timeout", "2m")
	cmd.Env = append(os.Environ(), recordEnv+"="+root, "TMPDIR="+t.TempDir())
	calls := recordCalls(t, cmd)
	recordedAt := time.Now()

	var acks []ack
	var at []int // of each, after how many calls it was there
	each := 0
	if text := os.Getenv(powerCutsEnv); text != "" {
		var err error
		if each, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	// Once to learn what comes, once to try.
	replayed(root, calls, func(n int, _ *replay) bool { return true }, func(n int, line []byte) {
		var a ack
		if err := json.Unmarshal(line, &a); err != nil {
			t.Error(err)
		}
		acks, at = append(acks, a), append(at, n)
	})
	var all []string
	for _, a := range acks {
		all = append(all, a.Texts...)
	}
	if len(all) < 100 {
		t.Fatalf("only %d entries were acknowledged in %d calls", len(all), len(calls))
	}
	rnd := rand.New(rand.NewPCG(14, 15))
	tried, opened := 0, 0
	work := t.TempDir()
	last := replayed(root, calls, func(n int, r *replay) bool {
		times := each
		if each == 0 && rnd.IntN(1+len(calls)/150) == 0 {
			times = 1
		}
		for range times {
			tried++
			dir := filepath.Join(work, strconv.Itoa(tried))
			if err := r.cut(dir, rnd); err != nil {
				t.Fatal(err)
			}
			until, _ := slices.BinarySearch(at, n+1)
			became, err := afterCut(dir, acks[:until], all, recordedAt)
			if err != nil {
				t.Errorf("at %d of %d begins and ends of calls, and after %d acknowledgements (in %s): %v", n, 2*len(calls), until, dir, err)
				return false
			}
			if became {
				opened++
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		return true
	}, nil)
	t.Logf("%d calls, %d entries; %d states of the disk up to call %d, %d of which had a log", len(calls), len(all), tried, last, opened)
}

// replayed replays calls: state is called after each end of one that matters, and
// where others ran meanwhile its begin, until it is false; and line for each line of "acks".
func replayed(root string, calls []call, state func(n int, r *replay) bool, line func(n int, line []byte)) int {
	r := newReplay(root)
	type event struct {
		at  int
		do  *call
		end bool
	}
	var events []event
	for i := range calls {
		events = append(events, event{calls[i].begin, &calls[i], false})
		if calls[i].end < 1<<62 {
			events = append(events, event{calls[i].end, &calls[i], true})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at - b.at })
	ends := map[*call]func(){}
	for n, e := range events {
		r.wrote = func(path string, data []byte) {
			if line != nil && filepath.Base(path) == "acks" {
				line(n, data)
			}
		}
		if e.end {
			if end := ends[e.do]; end != nil {
				end()
				if !state(n, r) {
					return n
				}
			}
			continue
		}
		if end := r.begin(e.do); end != nil {
			ends[e.do] = end
			if e.do.end > e.do.begin+1 && !state(n, r) {
				return n
			}
		}
	}
	return len(events)
}

// afterCut opens what the disk has, and compares it with what was acknowledged.
func afterCut(dir string, acks []ack, all []string, now time.Time) (opened bool, err error) {
	var must []string
	keys := map[string]string{}
	var last ack
	for _, a := range acks {
		must = append(must, a.Texts...)
		maps.Copy(keys, a.Keys)
		last.Opened, last.Restored = last.Opened || a.Opened, max(last.Restored, a.Restored)
	}
	if last.Restored > 0 {
		got, _, err := opensAs(filepath.Join(dir, "restored"), nil, now)
		if err != nil {
			return false, fmt.Errorf("the restored log: %w", err)
		}
		if n := len(got); n != last.Restored {
			return false, fmt.Errorf("the restored log has %d entries, want %d", n, last.Restored)
		}
	}
	path := filepath.Join(dir, "log")
	if _, err := os.Stat(path); err != nil && !last.Opened {
		return false, nil
	}
	got, states, err := opensAs(path, keys, now)
	if err != nil {
		return false, err
	}
	return true, compare(got, must, all, states)
}

// opensAs opens a log, reads it, uses it and keys that were used, and closes it; twice,
// because what the first time repairs must be right, too. It is always now: a key is known
// for five minutes, and the test may take longer.
func opensAs(path string, keys map[string]string, now time.Time) (texts []string, states []broker.Entry, err error) {
	for i := range 2 {
		l, err := newLog(testConfig(path), disk{}, func() time.Time { return now })
		if err != nil {
			return nil, nil, err
		}
		if err := l.Start(); err != nil {
			_ = l.Close()
			return nil, nil, err
		}
		c := newCollector()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- l.Follow(ctx, c) }()
		select {
		case <-c.ready:
		case err = <-ended:
			ended <- err
		}
		got := c.texts()
		if err == nil {
			_, err = l.Append(context.Background(), []broker.Op{{Kind: broker.KindNotice, Channel: "n"}})
		}
		for data, key := range keys {
			r, refused := l.Append(context.Background(), []broker.Op{keyed(event("a", data), key)})
			if refused != nil || !r[0].Repeated || r[0].Err != nil {
				err = errors.Join(err, refused, fmt.Errorf("the key %s gives %+v", key, r))
			}
		}
		cancel()
		<-ended
		if err = errors.Join(err, l.Close()); err != nil {
			return nil, nil, fmt.Errorf("opened for the %d. time: %w", i+1, err)
		}
		if i == 0 {
			texts, states = got, c.origin.States
		} else if !slices.Equal(got, texts) {
			return nil, nil, fmt.Errorf("opened again it has %d entries, not %d", len(got), len(texts))
		}
	}
	return texts, states, nil
}

// compare compares what a log has with what it must have, and all that there ever was. What
// is removed when it is old, which is values and what begins with "old", may be missing.
func compare(got, must, all []string, states []broker.Entry) error {
	kept := func(texts []string) []string {
		return slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return strings.Contains(s, "=") || strings.HasPrefix(s, "old") })
	}
	if has, want := kept(got), kept(all); len(has) < len(kept(must)) || !slices.Equal(has, want[:len(has)]) {
		return fmt.Errorf("it has %d entries, %d were acknowledged: %.60q", len(has), len(kept(must)), has)
	}
	next := 0
	has := map[int]bool{} // by the place in all
	for _, text := range got {
		i := slices.Index(all[next:], text)
		if i < 0 {
			return fmt.Errorf("%.60q is not in its place", text)
		}
		has[next+i] = true
		next += i + 1
	}
	for _, name := range []string{"v", "w", "x"} {
		have := name + "="
		for _, s := range states {
			if s.Channel == name {
				have += string(s.State.Value)
			}
		}
		// It is the last one that was acknowledged, or that the log has, or a later one.
		var of []string
		least := 0
		for i, text := range all {
			if strings.HasPrefix(text, name+"=") {
				of = append(of, text)
				if i < len(must) || has[i] {
					least = len(of) - 1
				}
			}
		}
		if len(of) > 0 && !slices.Contains(of[least:], have) && (least > 0 || have != name+"=") {
			return fmt.Errorf("the value is %q, and %q was there", have, of[least])
		}
	}
	return nil
}

// recorded is the process that is recorded.
func recorded(t *testing.T, dir string) {
	acks, err := os.OpenFile(filepath.Join(dir, "acks"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer acks.Close()
	say := func(a ack) {
		line, err := json.Marshal(a)
		if err == nil {
			_, err = acks.Write(line)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig(filepath.Join(dir, "log"))
	var now clock
	l := openFilling(t, cfg, disk{}, now.now, 3000, 9000)
	say(ack{Opened: true})
	c := follow(t, l)
	seen := len(c.texts())
	var wg sync.WaitGroup
	step := func(i int) {
		keys := map[string]string{}
		if i%5 == 0 {
			for n := range 3 {
				wg.Go(func() { appended(t, l, event("a", fmt.Sprint("beside ", i, " ", n))) })
			}
		}
		key := fmt.Sprint("k", i)
		data := fmt.Sprint("event ", i, strings.Repeat(".", i*37%5000))
		r := appended(t, l, keyed(event("a", data), key))
		keys[data] = key
		if r[0].Repeated {
			t.Errorf("%s is repeated", key)
		}
		value := fmt.Sprint(i)
		if i%7 == 6 {
			value = ""
		}
		appended(t, l, aged("b", fmt.Sprint("old ", i), time.Minute), set("v", fmt.Sprint(i)), event("a", fmt.Sprint("with a value ", i)))
		if i%7 != 0 {
			appended(t, l, set([]string{"w", "x"}[i%2], value))
		}
		wg.Wait()
		texts := c.texts()
		say(ack{Texts: texts[seen:], Keys: keys})
		seen = len(texts)
	}
	for i := range 40 {
		step(i)
		switch i {
		case 5, 15, 25, 35:
			if err := l.round(); err != nil {
				t.Fatal(err)
			}
		case 10, 30:
			l.nextSegment()
		case 12: // so that there is something to compact
			for n := range 50 {
				appended(t, l, set(fmt.Sprint("large", n), strconv.Quote(strings.Repeat("x", 2000))))
			}
			if err := l.round(); err != nil {
				t.Fatal(err)
			}
			for n := range 50 {
				appended(t, l, set(fmt.Sprint("large", n), ""))
			}
		case 18, 33:
			if err := l.Compact(); err != nil {
				t.Fatal(err)
			}
		case 20: // what is old is removed
			l.nextSegment()
			step(1001)
			now.add(10 * time.Minute)
			tidy(t, l)
			if l.Stats().Dropped == 0 {
				t.Fatal("nothing is removed")
			}
		case 23:
			_ = c.end()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openAt(t, cfg, &now)
			c = follow(t, l)
			seen = len(c.texts())
		case 28:
			_ = c.end()
			l.crash()
			l = openFilling(t, cfg, disk{}, now.now, 500, 700)
			c = follow(t, l)
			seen = len(c.texts())
		case 37:
			var backup bytes.Buffer
			if err := l.Backup(t.Context(), &backup); err != nil {
				t.Fatal(err)
			}
			n := len(followed(t, l))
			if _, err := Restore(&backup, filepath.Join(dir, "restored")); err != nil {
				t.Fatal(err)
			}
			say(ack{Restored: n})
		}
	}
}

// followed are the entries that a log has.
func followed(t *testing.T, l *Log) (texts []string) {
	t.Helper()
	l.committing.Lock()
	l.mu.Lock()
	_, readers := l.origin()
	l.mu.Unlock()
	l.committing.Unlock()
	c := newCollector()
	if _, err := l.giveOlder(t.Context(), readers, c); err != nil {
		t.Fatal(err)
	}
	return c.texts()
}
