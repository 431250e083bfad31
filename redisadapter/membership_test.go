package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// waitMembers waits until all logs know for sure that they are the members.
func waitMembers(t testing.TB, patience time.Duration, logs ...*Log) {
	t.Helper()
	var want []string
	for _, l := range logs {
		want = append(want, l.Node())
	}
	slices.Sort(want)
	awaitTrue(t, patience, fmt.Sprint(len(logs), " members"), func() bool {
		for _, l := range logs {
			if names, sure := l.Members(); !sure || !slices.Equal(names, want) {
				return false
			}
		}
		return true
	})
}

func TestNodeThatDiesIsGone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr())
	logs, _ := nodes(t, logConfig(server, t), 2)
	if _, sure := logs[0].Members(); sure {
		t.Error("a node that has just come knows all the others for sure")
	}
	cfg := logConfig(server, t)
	cfg.Addresses = []string{proxy.Addr()}
	dying := openLog(t, cfg)
	r := record(t, dying)
	leaving := openLog(t, logConfig(server, t))
	last := record(t, leaving)
	waitMembers(t, longEnough, logs[0], logs[1], dying, leaving)

	proxy.Cut()
	awaitTrue(t, longEnough, "a node without Redis to know that it knows nothing", func() bool {
		_, sure := dying.Members()
		return !sure
	})
	last.stop() // which tells the other nodes
	gone := func(l *Log) func() bool {
		return func() bool {
			names, sure := logs[0].Members()
			return sure && !slices.Contains(names, l.Node())
		}
	}
	awaitTrue(t, longEnough, "a node that has left to be gone", gone(leaving))
	awaitTrue(t, longEnough, "a node that has died to be gone", gone(dying))
	proxy.Heal()
	awaitTrue(t, longEnough, "a node that comes back to be there", func() bool { return !gone(dying)() })
	r.waitReady()
}

// TestNodeThatLeavesHasNoLease: the others need not wait for its end. That must not take
// longer than leaveTime, which may be too short once.
func TestNodeThatLeavesHasNoLease(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	awaitTrue(t, longEnough, "a lease to go with its node", func() bool {
		log := openLog(t, logConfig(server, t))
		r := record(t, log)
		hasLease := func() bool {
			return server.Client().ZScore(t.Context(), log.keys.nodes, log.Node()).Err() == nil
		}
		awaitTrue(t, longEnough, "a lease", hasLease)
		r.stop()
		return !hasLease()
	})
}

func TestOutageOfRedisDeclaresNobodyDead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.AppendOnly())
	logs, recorders := nodesAt(t, logConfig(server, t), 3, quickIntervals)
	waitMembers(t, longEnough, logs...)
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			for _, l := range logs {
				if names, sure := l.Members(); sure && len(names) != 3 {
					t.Errorf("for sure there are %v", names)
					return
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	server.Kill()
	awaitTrue(t, longEnough, "nobody to know who is there", func() bool {
		return !slices.ContainsFunc(logs, func(l *Log) bool { _, sure := l.Members(); return sure })
	})
	time.Sleep(quickIntervals.lease) // in which all leases end
	server.Restart()
	for _, r := range recorders {
		r.waitReady()
	}
	waitMembers(t, longEnough, logs...)
	close(stop)
	<-watched
}

func TestReadersOfOtherNodesAreAddedUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, _ := nodesAt(t, logConfig(server, t), 3, quickIntervals)
	ctx := t.Context()
	report := func(l *Log, readers map[string]int) {
		t.Helper()
		if err := l.Report(ctx, readers); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"a", "b", "many 7", "c"}
	sums := func() (sums []int) {
		t.Helper()
		awaitTrue(t, longEnough, "the members to be known", func() bool {
			var err error
			if sums, err = logs[0].Readers(ctx, names); err != nil && !errors.Is(err, broker.ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
		return sums
	}
	await := func(want ...int) {
		t.Helper()
		awaitTrue(t, longEnough, fmt.Sprint(want), func() bool { return slices.Equal(sums(), want) })
	}
	many := map[string]int{"a": 2, "b": 1}
	for i := range 2500 {
		many[fmt.Sprint("many ", i)] = i
	}
	report(logs[0], map[string]int{"a": 100}) // a node does not count its own
	report(logs[1], many)
	report(logs[2], map[string]int{"a": 3, "c": 4})
	await(5, 1, 7, 4)
	report(logs[1], map[string]int{"a": 0, "b": 2})
	if got := sums(); !slices.Equal(got, []int{3, 2, 7, 4}) {
		t.Errorf("after a change there are %v", got)
	}
	// What Redis has lost is reported again, and all of it.
	if err := server.Client().Del(ctx, logs[1].keys.node+logs[1].Node()).Err(); err != nil {
		t.Fatal(err)
	}
	if got := sums(); !slices.Equal(got, []int{3, 0, 0, 4}) {
		t.Errorf("what is not there counts: %v", got)
	}
	report(logs[1], map[string]int{"c": 1})
	report(logs[1], map[string]int{"c": 0})
	await(3, 2, 7, 4)
	awaitTrue(t, longEnough, "all channels to be in Redis", func() bool { // "b", and all but "many 0"
		return server.Client().HLen(ctx, logs[1].keys.node+logs[1].Node()).Val() == 2500
	})
	// A report that failed is sent, too.
	proxied, cancel := context.WithCancel(ctx)
	cancel()
	if err := logs[1].Report(proxied, map[string]int{"b": 5}); err == nil {
		t.Error("a report with a context that has ended succeeds")
	}
	_ = logs[2].Close()
	await(0, 5, 7, 0)

	lonely := openLog(t, logConfig(server, t))
	if _, err := lonely.Readers(ctx, names); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("without knowing the nodes: %v", err)
	}
	_ = lonely.Close()
	if _, err := lonely.Readers(ctx, names); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Readers of a closed log: %v", err)
	}
	if err := lonely.Report(ctx, nil); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Report of a closed log: %v", err)
	}
}

func TestClockThatJumpsLeavesMembersUnknown(t *testing.T) {
	t.Parallel()
	var c membership
	sent, clock := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	hear := func(after, drift time.Duration, was bool) {
		sent, clock = sent.Add(after), clock.Add(after+drift)
		c.hear(&beat{clock: clock, was: was, names: []string{"a"}}, sent)
	}
	sureFor := func() time.Duration { return c.heard.Sub(c.since) }
	hear(0, 0, false)
	for range 4 {
		hear(defaultIntervals.beat, 10*time.Millisecond, true)
	}
	if sureFor() != 4*defaultIntervals.beat {
		t.Errorf("beats without a break are counted for %s", sureFor())
	}
	for name, jump := range map[string]time.Duration{"ahead": 5 * time.Second, "back": -5 * time.Second} {
		if hear(defaultIntervals.beat, jump, true); sureFor() != 0 {
			t.Errorf("a clock that jumps %s counts for %s", name, sureFor())
		}
		hear(defaultIntervals.beat, 0, true)
	}
	if hear(defaultIntervals.beat, 0, false); sureFor() != 0 {
		t.Errorf("a lease that had ended counts for %s", sureFor())
	}
}

func TestWatchDoubtsWhatThePrimaryContradicts(t *testing.T) {
	t.Parallel()
	id := func(n uint64) entry.Point { return entry.Point{ID: broker.ID{Ms: 1, N: n}, Nonce: 7} }
	b := func(last entry.Point) *beat { return &beat{of: lineage{log: "log"}, last: last} }
	had := func(n uint64, idle int) progress {
		return progress{of: lineage{log: "log"}, at: id(n), ready: true, idle: idle}
	}
	loading := had(3, 1)
	loading.ready = false
	down := errors.New("down")
	type step struct {
		beat *beat
		err  error
		had  progress
		want error
	}
	for name, steps := range map[string][]step{
		"nothing new":                   {{b(id(3)), nil, had(3, 1), nil}, {b(id(3)), nil, had(3, 2), nil}},
		"more is there, and comes":      {{b(id(5)), nil, had(3, 1), nil}, {b(id(9)), nil, had(5, 2), nil}},
		"more is there, and some comes": {{b(id(5)), nil, had(3, 1), nil}, {b(id(9)), nil, had(4, 2), nil}},
		"more is there, nothing comes":  {{b(id(5)), nil, had(3, 1), nil}, {b(id(9)), nil, had(3, 2), errSilent}},
		"but it is still applied":       {{b(id(5)), nil, had(3, 1), nil}, {b(id(9)), nil, had(3, 1), nil}},
		"but it was not ready":          {{b(id(5)), nil, loading, nil}, {b(id(9)), nil, had(3, 2), nil}},
		"less is there":                 {{b(id(2)), nil, had(3, 1), errBehind}},
		"another of that id is there":   {{b(entry.Point{ID: id(3).ID, Nonce: 8}), nil, had(3, 1), errBehind}},
		"another log is there":          {{&beat{of: lineage{log: "x"}, last: id(3)}, nil, had(3, 1), errAnother}},
		"values were lost":              {{&beat{of: lineage{"log", "1"}, last: id(3)}, nil, had(3, 1), errAnother}},
		"no log is there":               {{&beat{}, nil, had(3, 1), errAnother}},
		"one beat fails at a time":      {{nil, down, had(3, 1), nil}, {b(id(3)), nil, had(3, 2), nil}, {nil, down, had(3, 3), nil}},
		"two beats fail":                {{nil, down, had(3, 1), nil}, {nil, down, had(3, 2), errNoBeat}},
		"more comes while one fails":    {{b(id(5)), nil, had(3, 1), nil}, {nil, down, had(3, 2), nil}, {b(id(5)), nil, had(5, 3), nil}},
	} {
		var w watch
		for i, s := range steps {
			if got := w.judge(s.beat, s.err, s.had); !errors.Is(got, s.want) || got == nil != (s.want == nil) {
				t.Errorf("%s: after step %d: %v, want %v", name, i, got, s.want)
			}
		}
	}
}
