package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// brief is the policy of a history that is past its time soon.
var brief = broker.Policy{Events: 1000, Age: 500 * time.Millisecond, Bytes: 16 << 20}

// large is an event of 16 KiB that brief keeps.
func large() broker.Op {
	op := event("a", strings.Repeat("x", 16<<10))
	op.History = brief
	return op
}

// fillUp publishes until Redis takes no more, and says what it answered.
func fillUp(t *testing.T, log *Log) error {
	t.Helper()
	for range 10_000 {
		if _, err := log.Append(t.Context(), []broker.Op{large(), large(), large(), large()}); err != nil {
			return err
		}
	}
	t.Fatal("it is never full")
	return nil
}

// full makes a server's memory full: without room for anything.
func full(t *testing.T, s *redistest.Server) {
	t.Helper()
	do(t, s, "CONFIG", "SET", "maxmemory", "1")
}

func TestARedisThatIsFullEmptiesItself(t *testing.T) {
	t.Parallel()
	// The histories are full, and the publishers have left: what is past its time is
	// trimmed, without a publish.
	t.Run("without a publisher", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.MaxMemory(12<<20, "noeviction"))
		log := openLog(t, logConfig(server, t))
		log.intervals = quickIntervals
		log.intervals.trim = 200 * time.Millisecond
		record(t, log).waitReady()
		if err := fillUp(t, log); !errors.Is(err, broker.ErrUnavailable) {
			t.Fatal(err)
		}
		full(t, server)
		awaitTrue(t, longEnough, "the trim", func() bool { return length(t, server, &log.keys, entry.StreamOf(brief)) < 10 })
	})
	// Nobody trims: a publish finds no room, and makes it.
	t.Run("by a publish", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.MaxMemory(12<<20, "noeviction"))
		log := openLog(t, logConfig(server, t))
		if err := fillUp(t, log); !errors.Is(err, broker.ErrUnavailable) {
			t.Fatal(err)
		}
		do(t, server, "CONFIG", "SET", "maxmemory", fmt.Sprint(usedMemory(t, server)-4<<20))
		awaitTrue(t, longEnough, "a publish", func() bool {
			_, err := log.Append(t.Context(), []broker.Op{large()})
			if err != nil && !errors.Is(err, broker.ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
	})
	// The publish whose turn it is to trim does not even fail.
	t.Run("before a publish fails", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.MaxMemory(0, "noeviction"))
		log := openLog(t, logConfig(server, t))
		if err := log.create(t.Context()); err != nil {
			t.Fatal(err)
		}
		agedStream(t, server, &log.keys, entry.StreamOf(brief), 200, 16<<10)
		used, err := server.Client().MemoryUsage(t.Context(), log.keys.stream(entry.StreamOf(brief))).Result()
		if err != nil {
			t.Fatal(err)
		}
		do(t, server, "CONFIG", "SET", "maxmemory", fmt.Sprint(usedMemory(t, server)-used/2))
		appendAll(t, log, large())
	})
}

// usedMemory is what counts against the maxmemory of a server.
func usedMemory(t *testing.T, s *redistest.Server) (n int64) {
	t.Helper()
	info := s.Client().Info(t.Context(), "memory").Val()
	_, rest, _ := strings.Cut(info, "used_memory:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestIdempotencyKeysThatAreOldGoWithoutAPublish(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	appendAll(t, log, keyed(event("a", "1"), "k"))
	var hash string
	for i := range log.keys.idempotent {
		if server.Client().Exists(t.Context(), log.keys.idempotent[i]).Val() == 1 {
			hash = log.keys.idempotent[i]
			do(t, server, "HINCRBY", log.keys.meta, fmt.Sprintf("k%d", i), -keyHashes)
		}
	}
	full(t, server)
	if mine, err := log.trim(t.Context()); !mine || err != nil {
		t.Fatal(mine, err)
	}
	if server.Client().Exists(t.Context(), hash).Val() != 0 {
		t.Errorf("%s is still there", hash)
	}
}

// TestWhatFreesMemoryNeedsNone removes values, facts and members from a Redis whose
// memory others use.
func TestWhatFreesMemoryNeedsNone(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (*redistest.Server, Config){
		"one server": func(t *testing.T) (*redistest.Server, Config) {
			s := redistest.Start(t)
			return s, logConfig(s, t)
		},
		"a Cluster": func(t *testing.T) (*redistest.Server, Config) {
			c := redistest.StartCluster(t, 3, 0)
			cfg := testConfig("")
			cfg.Addresses, cfg.Cluster = c.Addrs(), true
			k := newKeys(cfg.Prefix)
			return c.Owner(c.Slot(k.meta)), cfg
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, cfg := start(t)
			logs, recorders := nodesAt(t, cfg, 2, quickIntervals)
			ctx := t.Context()
			for _, channel := range []string{"a", "b", "c", "d", "_fact"} {
				appendAll(t, logs[0], set(channel, `"`+channel+`"`))
			}
			appendAll(t, logs[0], large())
			if err := logs[1].Report(ctx, map[string]int{"a": 1, "b": 2}); err != nil {
				t.Fatal(err)
			}
			waitMembers(t, longEnough, logs...)
			full(t, server)

			refused := func(ops ...broker.Op) {
				t.Helper()
				if _, err := logs[0].Append(ctx, ops); !errors.Is(err, broker.ErrUnavailable) || !strings.HasPrefix(err.Error(), errMemory.Error()) {
					t.Errorf("%d operations: %v", len(ops), err)
				}
			}
			refused(large())
			refused(set("a", "1"))
			refused(set("new", "1"))
			refused(set("a", ""), set("b", "2"))
			purge := broker.Op{Kind: broker.KindPurge, Channel: "a"}
			refused(purge)
			version := appendAll(t, logs[0], set("b", ""), set("_fact", ""))[0].ID
			if r := appendAll(t, logs[0], keyed(set("c", ""), "k")); r[0].Err != nil {
				t.Error(r[0].Err)
			}
			if r := appendAll(t, logs[0], keyed(set("c", ""), "k")); !r[0].Repeated {
				t.Error("the key is not known")
			}
			if r := appendAll(t, logs[0], set("b", "")); !errors.Is(r[0].Err, broker.ErrStateMismatch) {
				t.Errorf("removing what is not there: %v", r[0].Err)
			}
			recorders[1].waitFor(version)

			// Between publishes that are refused, too, whatever shares their batch.
			stop, done := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for stop.Err() == nil {
					_, _ = logs[0].Append(stop, []broker.Op{large()})
				}
			}()
			appendAll(t, logs[0], set("d", ""))
			done()
			<-ended

			left := server.Client().HKeys(ctx, logs[0].keys.value).Val()
			if strings.Join(left, " ") != "a" {
				t.Errorf("the values of %q are left", left)
			}
			for _, r := range recorders {
				if len(r.cuts) != 1 {
					t.Errorf("the node was cut: %v", r.cuts)
				}
			}
			// The readers of a channel that has none any more, and a node that leaves.
			if err := logs[1].Report(ctx, map[string]int{"b": 0, "c": 7}); err != nil {
				t.Error(err)
			}
			if sums, err := logs[0].Readers(ctx, []string{"a", "b", "c"}); err != nil || fmt.Sprint(sums) != "[1 0 7]" {
				t.Errorf("there are %v readers, %v", sums, err)
			}
			if err := logs[1].Close(); err != nil {
				t.Fatal(err)
			}
			waitMembers(t, longEnough, logs[0])

			// The others need it no more.
			do(t, server, "CONFIG", "SET", "maxmemory", "0")
			appendAll(t, logs[0], large())
			if mixed := appendAll(t, logs[0], set("a", ""), set("b", "2")); mixed[0].Err != nil || mixed[1].Err != nil {
				t.Error(mixed)
			}
		})
	}
}

func TestALogThatMayTakeMoreThanRedisHasIsToldOnce(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int{64 << 20: 1, 512 << 20: 0, 0: 0} {
		server := redistest.Start(t, redistest.MaxMemory(size, "noeviction"))
		var told lines
		log, err := Open(logConfig(server, t), slog.New(slog.NewTextHandler(&told, nil)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = log.Close() })
		r := record(t, log)
		r.waitReady()
		before := r.waitCount()
		do(t, server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		r.wait("Ready again", func() bool { return r.up && r.readies > before })
		if n := told.count("less memory than the log may take"); n != want {
			t.Errorf("with %d bytes it is told %d times, want %d", size, n, want)
		}
	}
}
