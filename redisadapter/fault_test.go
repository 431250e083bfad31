package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// notAgain fails the test if Start was called again: nothing was lost.
func notAgain(t testing.TB, recorders ...*recorder) {
	t.Helper()
	for i, r := range recorders {
		if n := r.startsNow(); n != 1 {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Errorf("node %d starts %d times: %+v, cuts %v", i, n, r.starts[1:], r.cuts)
		}
	}
}

func TestRestartOfRedisLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.AppendOnly())
	logs, recorders := nodes(t, logConfig(server, t), 3)
	tr := publish(t, 8, mixed, logs...)
	for range 2 {
		tr.waitAcked(200)
		server.Kill()
		for _, r := range recorders {
			r.waitCut()
		}
		server.Restart()
		for _, r := range recorders {
			r.waitReady()
		}
	}
	tr.waitAcked(200)
	tr.stop()
	for _, r := range recorders {
		r.sync()
		tr.nothingLost(r)
	}
	same(t, recorders[0], recorders[1:]...)
	notAgain(t, recorders...)
}

func TestKilledConnectionsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodes(t, logConfig(server, t), 3)
	tr := publish(t, 8, mixed, logs...)
	for range 30 {
		tr.waitAcked(20)
		if err := server.Client().ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	tr.waitAcked(200)
	tr.stop()
	for _, r := range recorders {
		r.sync()
		tr.nothingLost(r)
		if len(r.cuts) < 2 {
			t.Errorf("a node has not noticed: cuts %v", r.cuts)
		}
	}
	same(t, recorders[0], recorders[1:]...)
	notAgain(t, recorders...)
}

func TestConnectionThatLeadsNowhereIsNoticed(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		begin func(*redistest.Server, *redistest.Proxy)
		end   func(*redistest.Server, *redistest.Proxy)
	}{
		"half open": {
			func(_ *redistest.Server, p *redistest.Proxy) { p.Freeze() },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Heal() },
		},
		"a server that is stopped": {
			func(s *redistest.Server, _ *redistest.Proxy) { s.Pause() },
			func(s *redistest.Server, _ *redistest.Proxy) { s.Resume() },
		},
		"replies that get lost": {
			func(_ *redistest.Server, p *redistest.Proxy) { p.DropReplies() },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Heal() },
		},
		"cut": {
			func(_ *redistest.Server, p *redistest.Proxy) { p.Cut() },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Heal() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := redistest.StartProxy(t, server.Addr())
			cfg := logConfig(server, t)
			near := openLog(t, cfg)
			cfg.Addresses = []string{proxy.Addr()}
			r := record(t, openLog(t, cfg))
			r.waitReady()
			appendSome(t, near, 3, "before ")
			r.sync()
			fault.begin(server, proxy)
			r.waitCut()
			if err := r.log.Sync(t.Context()); !errors.Is(err, broker.ErrUnavailable) {
				t.Errorf("Sync: %v", err)
			}
			fault.end(server, proxy)
			r.waitReady()
			appendSome(t, near, 3, "after ")
			r.sync()
			r.wantDatas(3, "before ", "after ")
			notAgain(t, r)
		})
	}
}

func TestSlowConnectionIsNoFault(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr())
	cfg := logConfig(server, t)
	near := openLog(t, cfg)
	proxy.Throttle(400 << 10)
	data := strings.Repeat("x", 60<<10)
	for i := range 8 { // as much as goes through in four seconds
		appendAll(t, near, kept(event("a", data)), set(fmt.Sprint("s", i), strconv.Quote(data)))
	}
	cfg.Addresses = []string{proxy.Addr()}
	r := record(t, openLog(t, cfg))
	r.waitReady()
	if all := r.all(); len(all) != 16 || len(r.cuts) != 1 || len(r.starts[0].States) != 8 {
		t.Errorf("%d entries, %d values, cuts %v", len(all), len(r.starts[0].States), r.cuts)
	}
}

func TestServerThatIsNotThePrimaryAnyMoreIsNotBelieved(t *testing.T) {
	t.Parallel()
	set := redistest.StartReplicated(t, 1)
	old := set.Primary()
	log := openLog(t, logConfig(old, t))
	r := record(t, log)
	r.waitReady()
	appendSome(t, log, 3, "before ")
	r.sync()
	// It is cut off, and does not know that there is another primary now.
	set.AwaitSynced()
	replica := set.Replicas()[0]
	replica.ReplicaOf(nil)
	cfg := log.cfg()
	cfg.Addresses = []string{replica.Addr()}
	near := openLog(t, cfg)
	appendSome(t, near, 3, "after ")
	log.clients.open(&cfg) // the next beat goes there; what the tail reads from stays
	r.wait("what the new primary has", func() bool { return len(r.entries) == 6 && r.up })
	r.wantDatas(3, "before ", "after ")
	notAgain(t, r)
}

func TestNodeWithoutThePrimaryIsCut(t *testing.T) {
	t.Parallel()
	set := redistest.StartReplicated(t, 1)
	old := set.Primary()
	log := openLog(t, logConfig(old, t))
	r := record(t, log)
	r.waitReady()
	appendSome(t, log, 3, "before ")
	set.AwaitSynced()
	set.Promote(0) // the old one answers who reads from it, still
	r.waitCut()
	r.wait("the reason", func() bool { return errors.Is(r.cuts[len(r.cuts)-1], errReplica) })
	set.Promote(0)
	r.waitReady()
	appendSome(t, log, 3, "after ")
	r.sync()
	r.wantDatas(3, "before ", "after ")
	notAgain(t, r)
}

func TestRedisWithoutMemoryIsStillFollowed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodesAt(t, logConfig(server, t), 2, quickIntervals)
	last := appendSome(t, logs[0], 3, "before ")
	recorders[1].waitFor(last)
	ctx := t.Context()
	limit := func(bytes string) {
		t.Helper()
		if err := server.Client().ConfigSet(ctx, "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1mb") // it has more
	if _, err := logs[0].Append(ctx, []broker.Op{kept(event("a", "x"))}); !errors.Is(err, broker.ErrUnavailable) {
		t.Fatalf("Append: %v", err)
	}
	// Leases are renewed: a node that comes now is a member.
	third := openLog(t, logConfig(server, t))
	third.intervals = quickIntervals
	record(t, third).waitReady()
	awaitTrue(t, longEnough, "members", func() bool {
		names, sure := logs[0].Members()
		return sure && len(names) == 3
	})
	for i, r := range recorders {
		if len(r.cuts) != 1 {
			t.Errorf("node %d was cut: %v", i, r.cuts)
		}
	}
	limit("0")
	appendSome(t, logs[0], 3, "after ")
	for _, r := range recorders {
		r.sync()
		r.wantDatas(3, "before ", "after ")
	}
	notAgain(t, recorders...)
}

// awaitTrue waits until ok is true.
func awaitTrue(t testing.TB, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-deadline:
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

func TestPasswordThatWasChangedIsUsed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Password("first"))
	cfg := logConfig(server, t)
	password := make(chan string, 1)
	password <- "first"
	cfg.Credentials = func(context.Context) (string, string, error) {
		p := <-password
		password <- p
		return "", p, nil
	}
	log := openLog(t, cfg)
	r := record(t, log)
	r.waitReady()
	appendSome(t, log, 3, "before ")
	server.SetPassword("second")
	kill := func() {
		t.Helper()
		if err := server.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	kill()
	r.waitCut()
	r.wait("the reason", func() bool {
		var reply redis.Error
		return errors.As(r.cuts[len(r.cuts)-1], &reply)
	})
	<-password
	password <- "second"
	r.waitReady()
	appendSome(t, log, 3, "after ")
	r.sync()
	r.wantDatas(3, "before ", "after ")
	notAgain(t, r)
}

func TestNodeThatMayNotReadTriesLessAndLess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACLUser("node", "secret", "~*", "+@all", "-xread"))
	cfg := logConfig(server, t)
	cfg.Username, cfg.Password = "node", "secret"
	began := time.Now()
	r := record(t, openLog(t, cfg))
	// Each attempt sends two XREAD.
	awaitTrue(t, longEnough, "the sixth attempt", func() bool { return rejected(t, server, "xread") >= 12 })
	if d := time.Since(began); d < 775*time.Millisecond { // 25, 50, 100, 200 and 400
		t.Errorf("it tried six times in %s", d)
	}
	var reply redis.Error
	r.wait("the reason", func() bool { return errors.As(r.cuts[len(r.cuts)-1], &reply) })
	if code, _ := replyOf(reply); code != "NOPERM" {
		t.Errorf("the reason is %v", reply)
	}
}
