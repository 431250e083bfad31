package redisadapter

import (
	"errors"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// TestAFullRedisIsToldWithoutAPublish: a node learns of it, and of its end, when it wants
// to trim.
func TestAFullRedisIsToldWithoutAPublish(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	log.intervals = quickIntervals
	log.intervals.trim = 200 * time.Millisecond
	record(t, log).waitReady()
	if h := log.Health(); h != (broker.Health{}) {
		t.Errorf("at first: %+v", h)
	}
	full(t, server)
	awaitTrue(t, longEnough, "no room", func() bool { return errors.Is(log.Health().Room, errMemory) })
	do(t, server, "CONFIG", "SET", "maxmemory", "0")
	awaitTrue(t, longEnough, "room", func() bool { return log.Health() == (broker.Health{}) })

	// Who publishes learns of it at once.
	log = openLog(t, logConfig(server, t))
	record(t, log).waitReady()
	appendAll(t, log, large())
	full(t, server)
	if _, err := log.Append(t.Context(), []broker.Op{large()}); !errors.Is(err, errMemory) || !errors.Is(log.Health().Room, errMemory) {
		t.Errorf("%v, and there is room: %v", err, log.Health().Room)
	}
	do(t, server, "CONFIG", "SET", "maxmemory", "0")
	if appendAll(t, log, large()); log.Health() != (broker.Health{}) {
		t.Errorf("it is stored, and there is no room: %v", log.Health().Room)
	}
}
