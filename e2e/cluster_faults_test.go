package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// fault is a fault of a Redis.
type fault struct {
	name string
	// begin begins the fault, and returns what ends it.
	begin func(t *testing.T, c *cluster) (end func(t *testing.T))
	// repair, if it is not nil, repairs the Redis after the recovery.
	repair func()

	stale []int    // the nodes that are out of reach of Redis
	gaps  []string // the reasons that readers may be told
	loses bool     // Redis may lose what it has acknowledged
	told  bool     // each reader that stays at its node must be told of the loss
	kept  *truth   // what Redis has lost and readers may get nevertheless
	// shows, if it is not nil, reports whether the fault had any effect. It lasts until then.
	shows func(*flow) bool
}

func refuses(f *flow) bool   { return f.refused.Load() > 0 }
func unsure(f *flow) bool    { return f.unknown.Load() > 0 }
func hesitates(f *flow) bool { return f.hesitated.Load() }

var everyNode = []int{0, 1, 2}

func nothing(*testing.T, *cluster) func(*testing.T) { return func(*testing.T) {} }

// again repeats do, until the end of the fault.
func again(every time.Duration, do func(context.Context) error) func(*testing.T, *cluster) func(*testing.T) {
	return func(t *testing.T, _ *cluster) func(*testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := do(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(every):
				}
			}
		})
		return func(*testing.T) {
			cancel()
			wg.Wait()
		}
	}
}

// lone is a cluster whose Redis is one server, behind a proxy for each node.
type lone struct {
	*cluster
	server  *redistest.Server
	proxies []*redistest.Proxy
}

// on makes a fault between some nodes and Redis.
func (l *lone) on(nodes []int, disturb func(*redistest.Proxy)) func(*testing.T, *cluster) func(*testing.T) {
	return func(*testing.T, *cluster) func(*testing.T) {
		for _, node := range nodes {
			disturb(l.proxies[node])
		}
		return func(*testing.T) {
			for _, node := range nodes {
				l.proxies[node].Heal()
			}
		}
	}
}

// command begins a fault with one command, and ends it with another.
func (l *lone) command(begin, end []any) func(*testing.T, *cluster) func(*testing.T) {
	return func(t *testing.T, _ *cluster) func(*testing.T) {
		l.do(t, begin...)
		return func(t *testing.T) { l.do(t, end...) }
	}
}

func (l *lone) do(t *testing.T, args ...any) {
	t.Helper()
	if err := l.redis.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// killClients closes all connections except its own.
func (l *lone) killClients(ctx context.Context) error {
	return l.redis.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err()
}

// faults are those of one server, and of the connections to it.
func (l *lone) faults(rewrite func(password string)) []fault {
	kept := new(truth)
	return []fault{
		{name: "restart", stale: everyNode, shows: hesitates, begin: func(*testing.T, *cluster) func(*testing.T) {
			l.server.Kill()
			return func(*testing.T) { l.server.Restart() }
		}},
		{name: "cut", stale: everyNode, shows: hesitates, begin: l.on(everyNode, (*redistest.Proxy).Cut)},
		{name: "cut, one node", stale: []int{0}, begin: l.on([]int{0}, (*redistest.Proxy).Cut)},
		{name: "half-open, one node", stale: []int{1}, begin: l.on([]int{1}, (*redistest.Proxy).Freeze)},
		{name: "frozen", stale: everyNode, begin: func(*testing.T, *cluster) func(*testing.T) {
			l.server.Pause()
			return func(*testing.T) { l.server.Resume() }
		}},
		{name: "slow", shows: hesitates, begin: l.on(everyNode, func(p *redistest.Proxy) { p.Delay(150 * time.Millisecond) })},
		{name: "clients killed", shows: unsure, begin: again(20*time.Millisecond, l.killClients)},
		{name: "replies lost", stale: everyNode, shows: unsure, begin: l.on(everyNode, (*redistest.Proxy).DropReplies)},
		{name: "out of memory", shows: refuses, begin: l.command([]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"})},
		{name: "read-only", shows: hesitates, begin: l.command([]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"})},
		{name: "scripts flushed", begin: again(5*time.Millisecond, func(ctx context.Context) error {
			return l.redis.ScriptFlush(ctx).Err()
		})},
		{name: "password rotated", stale: everyNode, shows: refuses, begin: func(t *testing.T, _ *cluster) func(*testing.T) {
			l.server.SetPassword("second")
			if err := l.killClients(t.Context()); err != nil {
				t.Fatal(err)
			}
			return func(*testing.T) { rewrite("second") }
		}},
		{name: "a stream evicted", gaps: []string{"trimmed", "diverged"}, kept: kept, begin: func(t *testing.T, _ *cluster) func(*testing.T) {
			*kept = l.evict(t)
			return func(*testing.T) {}
		}},
		{name: "values evicted", gaps: []string{"diverged"}, loses: true, told: true, begin: func(t *testing.T, _ *cluster) func(*testing.T) {
			l.do(t, "DEL", "{"+prefix+"}:value", "{"+prefix+"}:state")
			return func(*testing.T) {}
		}},
		{name: "FLUSHALL", gaps: []string{"diverged"}, loses: true, told: true, begin: func(t *testing.T, _ *cluster) func(*testing.T) {
			l.do(t, "FLUSHALL")
			return func(*testing.T) {}
		}},
	}
}

// evict removes the stream of most channels, as eviction would, and returns what
// was in it.
func (l *lone) evict(t *testing.T) (kept truth) {
	t.Helper()
	const name = "500000-3600000-134217728" // as nodeFile has it
	var had *redis.XMessageSliceCmd
	var gone *redis.IntCmd
	if _, err := l.redis.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		had = tx.XRange(t.Context(), streamKey(name), "("+l.since.String(), "+")
		gone = tx.Del(t.Context(), streamKey(name))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := kept.take(had.Val()); err != nil {
		t.Fatal(err)
	}
	if gone.Val() != 1 || len(kept) == 0 {
		t.Fatalf("%s has %d entries, and %d of it was removed", name, len(kept), gone.Val())
	}
	return kept
}

// failovers are those that sentinels make.
func failovers(watched *redistest.Sentinel) []fault {
	var former *redistest.Server
	promoted := func(*testing.T) { watched.AwaitFailover(former) }
	repair := func() {
		former.Restart()
		watched.AwaitReady()
	}
	return []fault{
		{name: "failover", gaps: []string{"diverged"}, loses: true, repair: repair, begin: func(*testing.T, *cluster) func(*testing.T) {
			former = watched.Master()
			former.Kill()
			return promoted
		}},
		{name: "failover that loses", gaps: []string{"diverged"}, loses: true, told: true, begin: func(t *testing.T, c *cluster) func(*testing.T) {
			former = watched.Master()
			var replicas []*redistest.Server
			for _, s := range watched.Servers() {
				if s != former {
					replicas = append(replicas, s)
					s.Pause()
				}
			}
			// Data that are buffered for a replica would still reach it.
			if err := former.Client().ClientKillByFilter(t.Context(), "TYPE", "replica").Err(); err != nil {
				t.Fatal(err)
			}
			c.delivers(t)
			former.Kill()
			for _, s := range replicas {
				s.Resume()
			}
			return promoted
		}},
	}
}

// delivers publishes until something was delivered.
func (c *cluster) delivers(t *testing.T) {
	t.Helper()
	number := c.numbers.Add(1)
	eventually(t, "a node to deliver", func() bool {
		a := c.ask(http.MethodPost, 0, probe, fmt.Sprintf("publish-%d", number), text(number, probe))
		return a.outcome == done && c.arrived(a.id, time.Now().Add(patience))
	})
}

// migrations move the slot of the log from one master to the next.
func migrations(many *redistest.Cluster) []fault {
	return []fault{
		{name: "slot migrated", begin: func(t *testing.T, c *cluster) func(*testing.T) {
			slot := many.Slot("{" + prefix + "}:meta")
			for begun, i := time.Now(), 1; i == 1 || time.Since(begun) < c.scale.fault; i++ {
				if i > 1 {
					c.delivers(t)
				}
				owner := many.Owner(slot)
				masters := slices.DeleteFunc(many.Masters(), func(s *redistest.Server) bool { return s == owner })
				many.MigrateSlot(slot, masters[i%len(masters)])
				settled(t, many)
			}
			return func(*testing.T) {}
		}},
	}
}

// settled waits until all nodes know the newest epoch of each other: before that a
// slot that is moved again might get lost.
func settled(t *testing.T, many *redistest.Cluster) {
	t.Helper()
	eventually(t, "all nodes to know all epochs", func() bool {
		var all []string
		for _, node := range many.Nodes() {
			text, err := node.Client().ClusterNodes(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			var epochs []string
			for line := range strings.Lines(text) {
				words := strings.Fields(line) // id, address, flags, master, ping, pong, epoch
				epochs = append(epochs, words[0]+words[6])
			}
			slices.Sort(epochs)
			all = append(all, strings.Join(epochs, " "))
		}
		return len(slices.Compact(all)) == 1
	})
}
