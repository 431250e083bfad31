package boltadapter

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// slowDisk is the disk of the system, on which one file cannot be read for now.
type slowDisk struct {
	disk
	slow  string // its path
	asked chan struct{}
	ready chan struct{}
}

func (d *slowDisk) Open(path string) (file, error) {
	if path == d.slow {
		select {
		case d.asked <- struct{}{}:
			<-d.ready
		default: // it was asked for before
		}
	}
	return d.disk.Open(path)
}

// openSlow opens a log whose oldest segment of channel a can be read only when the disk is
// ready.
func openSlow(t *testing.T, cfg Config) (*slowDisk, *Log) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(cfg.Path, "segments", "*", "0000000000000002.log"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	d := &slowDisk{slow: strings.Replace(paths[0], "2.log", "1.log", 1), asked: make(chan struct{}, 1), ready: make(chan struct{})}
	d.asked <- struct{}{} // that it is checked is not slow
	l := openOn(t, cfg, d)
	<-d.asked
	return d, l
}

// twoSegments is the directory of a log whose channel a has 17 events of a MiB, which are
// two segments. The newest one has one event.
func twoSegments(t *testing.T) (cfg Config, ids []broker.ID) {
	t.Helper()
	cfg = testConfig(tempLog(t))
	l := openLog(t, cfg)
	data := bytes.Repeat([]byte("x"), 1<<20)
	policy := broker.Policy{Events: 100, Bytes: 64 << 20}
	for i := range 18 {
		op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: data}, History: policy}
		if i == 0 {
			op = keyed(op, "k")
		}
		ids = append(ids, appended(t, l, op)[0].ID)
	}
	appended(t, l, set("v", "1"), broker.Op{Kind: broker.KindClose, Channel: "shut", Close: &broker.CloseOp{}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg, ids
}

// TestLogServesWhileWhatIsOlderIsRead: publishers, values, keys, and readers that come back
// from a moment before do not wait for it; whoever needs it does.
func TestLogServesWhileWhatIsOlderIsRead(t *testing.T) {
	t.Parallel()
	cfg, ids := twoSegments(t)
	files, l := openSlow(t, cfg)
	c := broker.DefaultConfig()
	c.Logger, c.MaxBytes, c.MaxEvent, c.History = l.logger, 1<<30, 2<<20, broker.Policy{Events: 100, Bytes: 64 << 20}
	b, err := broker.New(l, c)
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { close(files.ready) })
	defer func() { release(); _ = b.Close() }()
	if err := b.Reach(t.Context(), broker.Start{LastEventID: ids[17].String()}); err != nil {
		t.Fatal(err)
	}
	if done, total := l.Loaded(); b.Complete() || done >= total || !errors.Is(b.Health().Loading, broker.ErrLoading) {
		t.Fatalf("%d of %d bytes are read; %+v", done, total, b.Health())
	}
	wantEvents(t, b, broker.Start{LastEventID: ids[17].String()}, 0)
	if string(b.State("v").Value) != "1" {
		t.Error("the value is not there")
	}
	op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: bytes.Repeat([]byte("x"), 1<<20)}}
	if r := published(t, b, keyed(op, "k")); !r.Repeated || r.ID != ids[0] {
		t.Errorf("a key of before: %+v", r)
	}
	if r := published(t, b, event("shut", "x")); !errors.Is(r.Err, broker.ErrChannelClosed) {
		t.Errorf("a channel that was closed: %+v", r)
	}
	if r := published(t, b, event("a", "new")); !r.ID.After(ids[17]) || r.Err != nil {
		t.Errorf("a new event: %+v", r)
	}
	wantEvents(t, b, broker.Start{LastEventID: ids[17].String()}, 1)
	for _, start := range []broker.Start{{LastEventID: ids[3].String()}, {Earliest: true}, {Last: 1}, {LastEventID: "own"}, {Since: time.UnixMilli(int64(ids[0].Ms))}} {
		if _, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, Start: start}); !errors.Is(err, broker.ErrLoading) {
			t.Errorf("%+v: %v, want ErrLoading", start, err)
		}
	}
	ended, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := b.Reach(ended, broker.Start{Earliest: true}); !errors.Is(err, broker.ErrLoading) {
		t.Errorf("who waits too long gets %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- b.Reach(context.Background(), broker.Start{LastEventID: ids[3].String()}) }()
	release()
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	wantEvents(t, b, broker.Start{LastEventID: ids[3].String()}, 15)
	if err := b.Reach(t.Context(), broker.Start{Earliest: true}); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, b, broker.Start{Earliest: true}, 19)
	if done, total := l.Loaded(); !b.Complete() || done != total || total < 18<<20 || b.Health() != (broker.Health{}) {
		t.Errorf("%d of %d bytes are read; %+v", done, total, b.Health())
	}
}

// TestLogThatCannotBeReadOnEndsTheWait: its readers get an error that is not that it loads.
func TestLogThatCannotBeReadOnEndsTheWait(t *testing.T) {
	t.Parallel()
	cfg, ids := twoSegments(t)
	files, l := openSlow(t, cfg)
	c := broker.DefaultConfig()
	c.Logger = l.logger
	b, err := broker.New(l, c)
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { close(files.ready) })
	defer func() { release(); _ = b.Close() }()
	waited := make(chan error, 1)
	go func() { waited <- b.Reach(context.Background(), broker.Start{LastEventID: ids[3].String()}) }()
	f, err := os.OpenFile(files.slow, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("y"), 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	release()
	if err := <-waited; !errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrLoading) {
		t.Errorf("who waits gets %v", err)
	}
	if _, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}}); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("who comes then gets %v", err)
	}
}

func published(t *testing.T, b *broker.Broker, op broker.Op) broker.Result {
	t.Helper()
	r, err := b.Publish(t.Context(), []broker.Op{op})
	if err != nil {
		t.Fatal(err)
	}
	return r[0]
}

// wantEvents reads channel a.
func wantEvents(t *testing.T, b *broker.Broker, start broker.Start, n int) {
	t.Helper()
	s, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, Start: start})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	batch, got := broker.Batch{}, 0
	for more := true; more; more = batch.More {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		if batch.Gap != nil {
			t.Errorf("%+v: a gap %+v", start, batch.Gap)
		}
		got += batch.Events
	}
	if got != n {
		t.Errorf("%+v: %d events, want %d", start, got, n)
	}
}
