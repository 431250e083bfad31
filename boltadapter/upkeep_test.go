package boltadapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

func TestSecondLogOnTheDirectoryIsToldSo(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("BOLTADAPTER_TEST_DIR"); dir != "" { // the other process
		_, err := Open(testConfig(dir))
		fmt.Print(err)
		return
	}
	l := openLog(t, testConfig(tempLog(t)))
	began := time.Now()
	_, err := Open(testConfig(l.path))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), l.path) {
		t.Errorf("got %v", err)
	}
	if _, err := Check(l.path); !errors.Is(err, ErrLocked) {
		t.Errorf("Check: %v", err)
	}
	if took := time.Since(began); took > 20*lockPatience {
		t.Errorf("it took %s", took)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestSecondLogOnTheDirectoryIsToldSo")
	cmd.Env = append(os.Environ(), "BOLTADAPTER_TEST_DIR="+l.path)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("another process has the log open")) {
		t.Errorf("another process got %s, %v", out, err)
	}
	follow(t, l)
	appended(t, l, event("a", "1"))
}

func TestNewLogTouchesNothingUntilItIsStarted(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	l, err := New(testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), []broker.Op{event("a", "1")}); !errors.Is(err, broker.ErrLoading) {
		t.Errorf("Append before Start: %v", err)
	}
	c := newCollector()
	ended := make(chan error, 1)
	go func() { ended <- l.Follow(context.Background(), c) }()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is %s", dir)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	<-c.ready
	appended(t, l, event("a", "1"))
	if err := l.Start(); err == nil {
		t.Error("it was started twice")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Follow: %v", err)
	}
	l, err = New(testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Errorf("a log that was not started: %v", err)
	}
	if err := l.Start(); err == nil {
		t.Error("a log was started after Close")
	}
}

// slowly is a writer that reads on only when it is told.
type slowly struct {
	bytes.Buffer
	began chan struct{}
	on    chan struct{}
}

func (w *slowly) Write(b []byte) (int, error) {
	select {
	case w.began <- struct{}{}:
	default:
	}
	<-w.on
	return w.Buffer.Write(b)
}

func TestBackupIsConsistentAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	l := openLog(t, testConfig(tempLog(t)))
	c := follow(t, l)
	fill(t, l, 5)
	l.nextSegment()
	fill(t, l, 5)
	want := c.texts()
	w := &slowly{began: make(chan struct{}, 1), on: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- l.Backup(context.Background(), w) }()
	<-w.began
	appended(t, l, event("a", "while it is made"))
	if err := l.Compact(); err != nil {
		t.Error(err)
	}
	var second bytes.Buffer // is of later, and has all
	if err := l.Backup(t.Context(), &second); err != nil {
		t.Errorf("a second backup: %v", err)
	}
	if r, err := Restore(&second, tempLog(t)); err != nil || r.Entries != len(want)+1 {
		t.Errorf("the second backup has %+v, %v", r, err)
	}
	l.backups.Add(maxBackups - 1)
	if err := l.Backup(t.Context(), io.Discard); !errors.Is(err, errBackups) {
		t.Errorf("one backup too many: %v", err)
	}
	l.backups.Add(1 - maxBackups)
	close(w.on)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	report, err := Restore(bytes.NewReader(w.Bytes()), dir)
	if err != nil || report.Entries != len(want) || report.Values != 1 || report.Path != dir || report.Closed {
		t.Fatalf("restored %+v, %v", report, err)
	}
	if got := follow(t, openLog(t, testConfig(dir))).texts(); !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}
	if _, err := Restore(bytes.NewReader(w.Bytes()), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over a log: %v", err)
	}
	for name, b := range map[string][]byte{"cut": w.Bytes()[:w.Len()/2], "flipped": flipped(w.Bytes()), "nothing": nil} {
		dir := filepath.Join(t.TempDir(), name)
		if _, err := Restore(bytes.NewReader(b), dir); err == nil {
			t.Errorf("a backup that is %s was restored", name)
		}
		if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
			t.Errorf("%s has left %q", name, left)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.path, "*backup*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// flipped flips a bit of the last segment.
func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[bytes.LastIndex(b, []byte(frameMagic))+frameHeader+3] ^= 1
	return b
}

func TestCompactionGivesBackWhatIsFree(t *testing.T) {
	t.Parallel()
	l := openLog(t, testConfig(tempLog(t)))
	follow(t, l).drop.Store(true)
	value := `"` + strings.Repeat("x", 60_000) + `"`
	for i := range 100 {
		appended(t, l, set(fmt.Sprint("v", i), value))
	}
	tidy(t, l)
	for i := range 100 {
		appended(t, l, set(fmt.Sprint("v", i), ""))
	}
	appended(t, l, set("kept", "1"))
	tidy(t, l)
	before := l.Stats()
	if before.MetaFree < before.MetaBytes/2 {
		t.Errorf("%d of %d bytes are free", before.MetaFree, before.MetaBytes)
	}
	if err := l.Compact(); err != nil {
		t.Fatal(err)
	}
	if after := l.Stats(); after.MetaBytes > before.MetaBytes/4 {
		t.Errorf("%d bytes became %d", before.MetaBytes, after.MetaBytes)
	}
	appended(t, l, set("more", "2"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o := follow(t, openLog(t, testConfig(l.path))).origin
	if len(o.States) != 2 || len(o.Removed) != 100 {
		t.Errorf("%d values, %d removed", len(o.States), len(o.Removed))
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"needs the path":          func(c *Config) { c.Path = "" },
		"between syncs must be":   func(c *Config) { c.SyncEvery = 2 * time.Second },
		"has no time between":     func(c *Config) { c.SyncEvery, c.NoSync = time.Millisecond, true },
		"segments that are kept":  func(c *Config) { c.Retain = 1 },
		"of the directory must":   func(c *Config) { c.MaxSize = 1 },
		"must be more than that":  func(c *Config) { c.MaxSize = c.Retain },
		"time between syncs must": func(c *Config) { c.SyncEvery = -1 },
	} {
		cfg := testConfig("x")
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	l := openLog(t, testConfig(tempLog(t)))
	if err := l.Reconfigure(testConfig(tempLog(t))); err == nil {
		t.Error("the directory was changed")
	}
	slow := testConfig(l.path)
	slow.SyncEvery = 5 * time.Millisecond
	if err := l.Reconfigure(slow); err != nil {
		t.Error(err)
	}
	follow(t, l)
	appended(t, l, event("a", "1"))
	appended(t, l, event("a", "2"))
}
