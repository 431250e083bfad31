package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// writers append operations with keys, and repeat those that were not
// acknowledged, until end.
type writers struct {
	log  *Log
	wg   sync.WaitGroup
	stop atomic.Bool

	mu      sync.Mutex
	ids     map[string]broker.ID
	unknown int // answers that were uncertain
}

func write(t *testing.T, log *Log) *writers {
	w := &writers{log: log, ids: map[string]broker.ID{}}
	for n := range 4 {
		w.wg.Go(func() {
			for i := 0; !w.stop.Load(); i++ {
				text := fmt.Sprintf("%d.%d", n, i)
				if err := w.once(text); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	return w
}

func (w *writers) once(text string) error {
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r, err := w.log.Append(context.Background(), []broker.Op{keyed(kept(event("a", text)), text)})
		w.mu.Lock()
		switch {
		case err == nil:
			w.ids[text] = r[0].ID
			err = r[0].Err
			w.mu.Unlock()
			return err
		case errors.Is(err, broker.ErrUncertain):
			w.unknown++
		case !errors.Is(err, broker.ErrUnavailable) || time.Now().After(until):
			w.mu.Unlock()
			return err
		}
		w.mu.Unlock()
	}
}

// more waits until something more was acknowledged, by each writer.
func (w *writers) more(t *testing.T) {
	t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.ids)
	}
	want := count() + 50
	await(t, "writers to get on", func() bool { return count() >= want })
}

// end stops the writers, and checks that a server has what was acknowledged once,
// and chained.
func (w *writers) end(t *testing.T, s *redistest.Server) {
	t.Helper()
	w.stop.Store(true)
	w.wg.Wait()
	at := map[string]broker.ID{}
	for _, e := range entries(t, s, keptStream) {
		text := string(e.Event.Data)
		if _, twice := at[text]; twice {
			t.Errorf("%s is there twice", text)
		}
		at[text] = e.ID
	}
	for text, id := range w.ids {
		if at[text] != id {
			t.Errorf("%s was acknowledged as %s, and is at %s", text, id, at[text])
		}
	}
	t.Logf("%d were acknowledged, %d answers were uncertain", len(w.ids), w.unknown)
}

func TestClusterWhoseSlotMovesAndWhoseMasterFails(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 1)
	cfg := testConfig("")
	cfg.Addresses, cfg.Cluster = c.Addrs()[:2], true
	log := openLog(t, cfg)
	slot := c.Slot(newKeys(cfg.Prefix).meta)
	w := write(t, log)
	w.more(t)

	owner := c.Owner(slot)
	for _, to := range c.Masters() {
		if to != owner {
			c.MigrateSlot(slot, to)
			w.more(t)
		}
	}
	w.mu.Lock()
	if w.unknown > 0 {
		t.Errorf("%d answers were uncertain, although nothing has failed", w.unknown)
	}
	w.mu.Unlock()

	c.Failover(c.Owner(slot))
	w.more(t)
	w.end(t, c.Owner(slot))
}

func TestClusterWhoseMasterIsKilled(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 1)
	cfg := waiting("", 1, time.Second)
	cfg.Addresses, cfg.Cluster = c.Addrs(), true
	log := openLog(t, cfg)
	slot := c.Slot(newKeys(cfg.Prefix).meta)
	w := write(t, log)
	w.more(t)
	former := c.Owner(slot)
	former.Kill()
	successor := c.AwaitFailover(former)
	// Without a replica nothing is certain.
	former.Restart()
	w.more(t)
	w.end(t, successor)
}

func TestSentinelsThatReplaceThePrimary(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	cfg := waiting("", 2, time.Second)
	cfg.Addresses, cfg.Master = s.SentinelAddrs(), redistest.MasterName
	log := openLog(t, cfg)
	w := write(t, log)
	w.more(t)
	former := s.Master()
	former.Kill()
	s.AwaitFailover(former)
	former.Restart()
	w.more(t)
	s.AwaitReady()
	master := s.Failover()
	w.more(t)
	w.end(t, master)
}

func TestTLSAndUnixSockets(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.TLS(), redistest.Password("secret"))
	cfg, err := ParseURL("rediss://:secret@" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Prefix = "evstream:test"
	log := openLog(t, cfg)
	mustFail(t, log, broker.ErrUnavailable, "certificate", event("a", "1"))
	cfg.TLS = s.TLSConfig()
	if err := log.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	again(t, log, event("a", "2"))
	if all := entries(t, s, entry.Live); len(all) != 1 {
		t.Errorf("entries %v", texts(all))
	}

	socket := t.TempDir() + "/redis.sock"
	redistest.Start(t, redistest.Config("unixsocket "+socket))
	if cfg, err = ParseURL("unix://" + socket); err != nil {
		t.Fatal(err)
	}
	appendAll(t, openLog(t, cfg), event("a", "1"))
}

func TestReconfigureLosesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	cfg := testConfig(s.Addr())
	log := openLog(t, cfg)
	w := write(t, log)
	for range 20 {
		if err := log.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		w.more(t)
	}
	if w.unknown > 0 {
		t.Errorf("%d answers were uncertain", w.unknown)
	}
	w.end(t, s)
	await(t, "the former clients are closed", func() bool {
		log.clients.mu.Lock()
		defer log.clients.mu.Unlock()
		return len(log.clients.all) == 1
	})
	for name, change := range map[string]func(*Config){
		"address":  func(c *Config) { c.Addresses = []string{"localhost:1"} },
		"prefix":   func(c *Config) { c.Prefix = "another" },
		"database": func(c *Config) { c.DB = 1 },
		"kind":     func(c *Config) { c.Cluster = true },
		"bound":    func(c *Config) { c.MaxBytes = 1 },
	} {
		other := cfg
		change(&other)
		if err := log.Reconfigure(other); err == nil {
			t.Errorf("another %s is taken", name)
		}
	}
	_ = log.Close()
	if err := log.Reconfigure(cfg); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
