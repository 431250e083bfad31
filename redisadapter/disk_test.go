//go:build linux

package redisadapter

import (
	"errors"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// TestARedisWhoseDiskIsFullIsStillRead fills the disk that the file of a Redis is on.
// It refuses every write then, also what removes something, and even a PING.
func TestARedisWhoseDiskIsFullIsStillRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Everysec())
	logs, recorders := nodesAt(t, logConfig(server, t), 1, quickIntervals)
	log, r := logs[0], recorders[0]
	appendAll(t, log, set("a", "1"))
	appendAll(t, log, event("a", "before 0"))
	server.LimitFiles(1 << 10) // less than it has
	awaitTrue(t, longEnough, "the disk to be full", func() bool {
		_, err := log.Append(t.Context(), []broker.Op{event("a", "filler")})
		if err != nil && (!errors.Is(err, broker.ErrUnavailable) || !strings.HasPrefix(err.Error(), errDisk.Error())) {
			t.Fatal(err)
		}
		return err != nil
	})
	if room := log.Health().Room; !errors.Is(room, errDisk) {
		t.Errorf("the health has %v", room)
	}
	last := r.all()
	if _, err := log.Append(t.Context(), []broker.Op{set("a", "")}); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("a removal: %v", err)
	}
	// Reading goes on, also for a node that starts, or has lost its connection.
	if err := log.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	late := record(t, openLog(t, logConfig(server, t)))
	late.waitReady()
	before := r.waitCount()
	do(t, server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	r.wait("Ready again", func() bool { return r.up && r.readies > before })
	if n := len(r.all()); n != len(last) {
		t.Errorf("%d more entries were read", n-len(last))
	}

	server.LimitFiles(0)
	again(t, log, event("a", "after 0"))
	if room := log.Health().Room; room != nil {
		t.Errorf("there is room, and the health has %v", room)
	}
	appendAll(t, log, set("a", ""))
	appendAll(t, log, set("b", "1"))
	late.sync()
	r.sync()
	notAgain(t, late, r)
	same(t, r, late)
}
