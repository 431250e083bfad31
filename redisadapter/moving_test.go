package redisadapter

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// settled waits until all nodes have what Redis has, and fails the test if that
// is not the same.
func settled(t *testing.T, c redis.UniversalClient, k *keys, recorders ...*recorder) {
	t.Helper()
	for _, r := range recorders {
		r.sync()
	}
	want := inRedis(t, c, k)
	for _, r := range recorders {
		r.wantIDs(want)
	}
	same(t, recorders[0], recorders[1:]...)
}

func TestSentinelsNameANewPrimary(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	cfg := logConfig(set.Master(), t)
	cfg.Addresses, cfg.Master = set.SentinelAddrs(), redistest.MasterName
	logs, recorders := nodes(t, cfg, 2)
	tr := publish(t, 4, mixed, logs...)
	tr.waitAcked(200)
	set.Failover() // the former one takes writes for a while, which are lost
	tr.waitAcked(1000)
	set.AwaitReady()
	set.Master().Kill()
	former := set.Master()
	set.AwaitFailover(former)
	tr.waitAcked(200)
	tr.stop()
	settled(t, set.Client(), &logs[0].keys, recorders...)
}

func TestClusterMovesTheLog(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3, 1)
	cfg := logConfig(set.Nodes()[0], t)
	cfg.Addresses, cfg.Cluster = set.Addrs(), true
	logs, recorders := nodes(t, cfg, 2)
	k := &logs[0].keys
	tr := publish(t, 4, mixed, logs...)
	tr.waitAcked(200)
	slot := set.Slot(k.meta)
	owner := set.Owner(slot)
	for _, master := range set.Masters() {
		if master != owner {
			set.MigrateSlot(slot, master)
			break
		}
	}
	tr.waitAcked(200)
	set.Failover(set.Owner(slot))
	tr.waitAcked(200)
	tr.stop()
	settled(t, set.Client(), k, recorders...)
	for _, r := range recorders {
		tr.nothingLost(r)
		if n := len(r.cuts); n < 3 {
			t.Errorf("a node was cut %d times: %v", n, r.cuts)
		}
	}
	notAgain(t, recorders...)
}
