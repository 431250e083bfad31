package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

func TestSyncSeesWhatOthersHaveWritten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodes(t, logConfig(server, t), 2)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 50 {
				results, err := logs[0].Append(context.Background(), []broker.Op{event("a", fmt.Sprint(w, " ", n))})
				if err != nil {
					t.Error(err)
					return
				}
				if err := logs[1].Sync(context.Background()); err != nil {
					t.Error(err)
					return
				}
				r := recorders[1]
				r.mu.Lock()
				if results[0].ID.After(r.last) {
					t.Errorf("%s is not applied, but %s", results[0].ID, r.last)
				}
				r.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestSyncWaitsForAFollowerThatLags(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log, other := openLog(t, logConfig(server, t)), openLog(t, logConfig(server, t))
	r := &recorder{t: t, log: log, changed: make(chan struct{}), hold: make(chan struct{})}
	r.follow()
	r.waitReady()
	appendAll(t, other, event("a", "x"))
	ctx, cancel := context.WithCancel(context.Background())
	synced := make(chan error, 1)
	go func() { synced <- log.Sync(ctx) }()
	cancelled := make(chan error, 1)
	go func() { cancelled <- log.Sync(ctx) }()
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v, want context.Canceled", err)
	}
	if err := <-synced; !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v, want context.Canceled", err)
	}
	go func() { synced <- log.Sync(context.Background()) }()
	for range 3 { // each asks the primary, as the Sync does
		log.askNewest(&syncRequest{})
	}
	select {
	case err := <-synced:
		t.Errorf("Sync did not wait: %v", err)
	default:
	}
	close(r.hold)
	if err := <-synced; err != nil || len(r.all()) != 1 {
		t.Errorf("Sync: %v, %d entries", err, len(r.all()))
	}
}

func TestSyncWithoutRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	if err := log.Sync(t.Context()); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("without a log: %v", err)
	}
	r := record(t, log)
	r.waitReady()
	if err := log.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	server.Kill()
	if err := log.Sync(t.Context()); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
	_ = log.Close()
	if err := log.Sync(t.Context()); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
