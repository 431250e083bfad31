package redisadapter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/logtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

func waiting(addr string, replicas int, timeout time.Duration) Config {
	cfg := testConfig(addr)
	cfg.Wait, cfg.WaitTimeout = replicas, timeout
	return cfg
}

func TestReplicasThatAreWaitedForHaveWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	r := redistest.StartReplicated(t, 2)
	log := openLog(t, waiting(r.Primary().Addr(), 2, maxWaitTimeout))
	for n := 1; n <= 50; n++ {
		appendAll(t, log, event("a", "x"))
		for i, replica := range r.Replicas() {
			if got := len(entries(t, replica, entry.Live)); got != n {
				t.Fatalf("replica %d has %d entries, and %d are acknowledged", i, got, n)
			}
		}
	}
}

func TestTooFewReplicasAreUncertain(t *testing.T) {
	t.Parallel()
	r := redistest.StartReplicated(t, 1)
	log := openLog(t, waiting(r.Primary().Addr(), 1, maxWaitTimeout))
	op := func() broker.Op { return keyed(event("a", "x"), "k") }
	appendAll(t, log, set("b", "1"))
	r.Replicas()[0].Pause()
	if err := log.Reconfigure(waiting(r.Primary().Addr(), 1, 50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	mustFail(t, log, broker.ErrUncertain, "0 of 1 replicas", op())
	if all := entries(t, r.Primary(), entry.Live); len(all) != 2 {
		t.Fatalf("entries %v", texts(all))
	}
	// A repeated operation is as uncertain, and so is a value that is equal, on a
	// new connection, too.
	for range 2 {
		mustFail(t, log, broker.ErrUncertain, "0 of 1 replicas", op())
		mustFail(t, log, broker.ErrUncertain, "0 of 1 replicas", set("b", "1"))
		if err := log.Reconfigure(waiting(r.Primary().Addr(), 1, 50*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	// A refusal is certain.
	refused := appendAll(t, log, set("b", "2", broker.Condition{Kind: broker.IfAbsent}), keyed(event("a", "y"), "k"))
	if !errors.Is(refused[0].Err, broker.ErrStateMismatch) || !errors.Is(refused[1].Err, broker.ErrKeyReused) {
		t.Errorf("refused: %+v", refused)
	}
	// The log is still within reach.
	if err := log.Reconfigure(waiting(r.Primary().Addr(), 0, 0)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, log, event("a", "z"))
	if err := log.Reconfigure(waiting(r.Primary().Addr(), 1, maxWaitTimeout)); err != nil {
		t.Fatal(err)
	}
	r.Replicas()[0].Resume()
	r.AwaitSynced()
	again := appendAll(t, log, op())
	if all := entries(t, r.Replicas()[0], entry.Live); !again[0].Repeated || len(all) != 3 || again[0].ID != all[1].ID {
		t.Errorf("the answer is %+v, and the replica has %v", again[0], texts(all))
	}
}

// TestWhatWaitsWritesSomething: in some versions of Redis WAIT waits for nothing
// where the connection has not written anything.
func TestWhatWaitsWritesSomething(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	op := func() broker.Op { return keyed(event("a", "x"), "k") }
	appendAll(t, log, op())
	changes := func() int64 {
		return do(t, s, "EVAL", "return tonumber(string.match(redis.call('INFO', 'persistence'), 'rdb_changes_since_last_save:(%d+)'))", 0).(int64)
	}
	before := changes()
	if appendAll(t, log, op()); changes() != before {
		t.Error("what does not wait writes something")
	}
	if err := log.Reconfigure(waiting(s.Addr(), 1, time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	mustFail(t, log, broker.ErrUncertain, "0 of 1 replicas", op())
	if changes() == before {
		t.Error("what waits writes nothing")
	}
}

// TestUserWhoMayNotWait: it is not known then how many replicas have it.
func TestUserWhoMayNotWait(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.ACLUser("evstream", "secret", "~*", "+@all", "-wait"))
	cfg := waiting(s.Addr(), 1, 10*time.Millisecond)
	cfg.Username, cfg.Password = "evstream", "secret"
	log := openLog(t, cfg)
	_, err := log.Append(context.Background(), []broker.Op{event("a", "x")})
	if !errors.Is(err, broker.ErrUncertain) || !strings.Contains(err.Error(), "access rules") {
		t.Errorf("got %v", err)
	}
}

func TestLogThatWaitsMeetsTheContract(t *testing.T) {
	t.Parallel()
	r := redistest.StartReplicated(t, 1)
	logtest.Run(t, harness(func(t *testing.T) Config {
		cfg := logConfig(r.Primary(), t)
		cfg.Wait, cfg.WaitTimeout = 1, maxWaitTimeout
		return cfg
	}))
}
