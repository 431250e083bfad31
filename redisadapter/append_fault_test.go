package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// await waits until ok.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	awaitTrue(t, longEnough, what, ok)
}

// proxied returns a log behind a proxy. It has appended one event.
func proxied(t *testing.T, set func(*Config)) (*redistest.Server, *redistest.Proxy, *Log) {
	t.Helper()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr())
	cfg := testConfig(p.Addr())
	if set != nil {
		set(&cfg)
	}
	log := openLog(t, cfg)
	appendAll(t, log, event("a", "first"))
	return s, p, log
}

// busy reports whether a batch is on its way.
func (l *Log) busy() bool {
	l.clients.mu.Lock()
	defer l.clients.mu.Unlock()
	return l.clients.now.users > 0
}

// waiting is how many operations wait.
func (l *Log) waiting() int {
	return l.queue.Ops()
}

func mustFail(t *testing.T, log *Log, want error, text string, ops ...broker.Op) {
	t.Helper()
	r, err := log.Append(context.Background(), ops)
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %+v, %v, want %v with %q", r, err, want, text)
	}
}

// again appends until the log is within reach.
func again(t *testing.T, log *Log, op broker.Op) (r broker.Result) {
	t.Helper()
	await(t, "the log is within reach", func() bool {
		results, err := log.Append(context.Background(), []broker.Op{op})
		if err != nil {
			if !errors.Is(err, broker.ErrUnavailable) {
				t.Fatal(err)
			}
			return false
		}
		r = results[0]
		return true
	})
	return r
}

func texts(all []stored) (texts []string) {
	for _, e := range all {
		texts = append(texts, string(e.Event.Data))
	}
	return texts
}

func TestLostReplyIsUncertainAndTheKeyGivesItBack(t *testing.T) {
	s, p, log := proxied(t, nil)
	p.DropReplies()
	mustFail(t, log, broker.ErrUncertain, "", keyed(event("a", "x"), "k"))
	p.Heal()
	r := again(t, log, keyed(event("a", "x"), "k"))
	all := entries(t, s, entry.Live)
	if len(all) != 2 || !r.Repeated || r.ID != all[1].ID {
		t.Errorf("the second answer is %+v, and there is %+v", r, all)
	}
}

func TestServerThatIsNotThereIsOutOfReachUntilItComes(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr())
	p.Cut()
	log := openLog(t, testConfig(p.Addr()))
	mustFail(t, log, broker.ErrUnavailable, "connection refused", event("a", "1"))
	begin := time.Now()
	for n := range 1000 { // which would wait for an attempt each
		mustFail(t, log, broker.ErrUnavailable, "connection refused", event("a", "2"))
		if took := time.Since(begin); took > longEnough {
			t.Fatalf("%d more take %s", n+1, took)
		}
	}
	p.Heal()
	again(t, log, event("a", "3"))
	if all := entries(t, s, entry.Live); len(all) != 1 {
		t.Errorf("entries %v", texts(all))
	}
}

// TestShortCutIsNotNoticed: what was not executed is tried again.
func TestShortCutIsNotNoticed(t *testing.T) {
	s, p, log := proxied(t, nil)
	for i := range 5 {
		p.Cut()
		done := make(chan error, 1)
		go func() {
			_, err := log.Append(context.Background(), []broker.Op{event("a", fmt.Sprint(i))})
			done <- err
		}()
		await(t, "it was given back", func() bool { return log.waiting() > 0 })
		p.Heal()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if all := entries(t, s, entry.Live); len(all) != 6 {
		t.Errorf("entries %v", texts(all))
	}
}

func TestServerThatHangsIsOutOfReach(t *testing.T) {
	t.Parallel()
	s, p, log := proxied(t, nil)
	p.Freeze()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := log.Append(context.Background(), []broker.Op{event("a", fmt.Sprint(i))})
			if !errors.Is(err, broker.ErrUncertain) && !errors.Is(err, broker.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	p.Heal()
	again(t, log, event("a", "last"))
	seen := map[string]int{}
	for _, text := range texts(entries(t, s, entry.Live)) {
		if seen[text]++; seen[text] > 1 {
			t.Errorf("%q is there twice", text)
		}
	}
}

func TestContextThatEnds(t *testing.T) {
	s, p, log := proxied(t, nil)
	p.Freeze()
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	errs := make(chan error)
	send := func(ctx context.Context, text string) {
		_, err := log.Append(ctx, []broker.Op{event("a", text)})
		errs <- err
	}
	go send(first, "1")
	await(t, "the first is on its way", log.busy)
	go send(second, "2")
	await(t, "the second waits", func() bool { return log.waiting() == 1 })
	cancelSecond()
	if err := <-errs; !errors.Is(err, context.Canceled) || errors.Is(err, broker.ErrUncertain) {
		t.Errorf("while it waits: %v", err)
	}
	cancelFirst()
	if err := <-errs; !errors.Is(err, broker.ErrUncertain) || errors.Is(err, context.Canceled) {
		t.Errorf("while it is on its way: %v", err)
	}
	p.Heal()
	appendAll(t, log, event("a", "3"))
	if all := texts(entries(t, s, entry.Live)); strings.Join(all, " ") != "first 1 3" {
		t.Errorf("entries %v", all)
	}
}

func TestCloseWhileABatchIsOnItsWay(t *testing.T) {
	_, p, log := proxied(t, nil)
	p.Freeze()
	frozen := time.Now()
	errs := make(chan error, 2)
	send := func(ch string) {
		_, err := log.Append(context.Background(), []broker.Op{event(ch, "x")})
		errs <- err
	}
	go send("a")
	await(t, "the first is on its way", log.busy)
	go send("b")
	await(t, "the second waits", func() bool { return log.waiting() == 1 })
	soon := time.Since(frozen) < readTimeout/2
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	one, two := <-errs, <-errs
	if errors.Is(two, broker.ErrUncertain) {
		one, two = two, one
	}
	if !errors.Is(one, broker.ErrUncertain) || !errors.Is(two, broker.ErrClosed) {
		t.Errorf("what was on its way: %v; what waited: %v", one, two)
	}
	if text := one.Error(); soon && (strings.Contains(text, "timeout") || strings.Contains(text, "deadline")) {
		t.Errorf("Close waited for what was on its way: %v", one)
	}
	mustFail(t, log, broker.ErrClosed, "", event("a", "y"))
}

func TestScriptThatRedisHasForgottenIsSentAgain(t *testing.T) {
	s, _, log := proxied(t, nil)
	do(t, s, "SCRIPT", "FLUSH")
	r := appendAll(t, log, keyed(event("a", "x"), "k"), event("a", "y"))
	if all := entries(t, s, entry.Live); len(all) != 3 || r[0].Repeated {
		t.Errorf("results %+v, entries %v", r, texts(all))
	}
}

func TestServerWithoutMemoryRefusesAndIsNotOutOfReach(t *testing.T) {
	s := redistest.Start(t, redistest.MaxMemory(0, "noeviction"))
	log := openLog(t, testConfig(s.Addr()))
	appendAll(t, log, kept(event("a", "1")))
	before := meta(t, s)
	do(t, s, "CONFIG", "SET", "maxmemory", "1")
	for range 3 {
		mustFail(t, log, broker.ErrUnavailable, "raise its maxmemory", kept(event("a", "2")), set("a", "1"))
	}
	do(t, s, "CONFIG", "SET", "maxmemory", "0")
	if after := meta(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("meta was %v, is %v", before, after)
	}
	appendAll(t, log, kept(event("a", "3")))
	if all := entries(t, s, keptStream); strings.Join(texts(all), " ") != "1 3" {
		t.Errorf("entries %v", texts(all))
	}
}

func TestReplicaTakesNothing(t *testing.T) {
	t.Parallel()
	primary, s := redistest.Start(t), redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	appendAll(t, log, event("a", "1"))
	s.ReplicaOf(primary)
	mustFail(t, log, broker.ErrUnavailable, "", event("a", "2"))
	await(t, "the reason is told", func() bool {
		_, err := log.Append(context.Background(), []broker.Op{event("a", "2")})
		if !errors.Is(err, broker.ErrUnavailable) {
			t.Fatal(err)
		}
		return strings.Contains(err.Error(), "is a replica")
	})
	s.ReplicaOf(nil)
	again(t, log, event("a", "3"))
	if all := entries(t, s, entry.Live); strings.Join(texts(all), " ") != "3" {
		t.Errorf("entries %v", texts(all)) // the replica has discarded its own
	}
}

// TestRestartIsNotUncertain uses a server that keeps what it has acknowledged.
// go-redis finds out that a connection was closed before it writes to it.
func TestRestartIsNotUncertain(t *testing.T) {
	s := redistest.Start(t, redistest.AppendOnly())
	log := openLog(t, testConfig(s.Addr()))
	for i := range 3 {
		appendAll(t, log, event("a", fmt.Sprint(i)))
		s.Restart()
	}
	if all := entries(t, s, entry.Live); strings.Join(texts(all), " ") != "0 1 2" {
		t.Errorf("entries %v", texts(all))
	}
}

// TestWhatIsTriedAgainIsThereOnce breaks the connection at random, while writers
// repeat operations with keys until they succeed.
func TestWhatIsTriedAgainIsThereOnce(t *testing.T) {
	t.Parallel()
	s, p, log := proxied(t, nil)
	const writers, each = 8, 60
	var done atomic.Int64
	var wg sync.WaitGroup
	ids := make([][]broker.ID, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				text := fmt.Sprintf("%d.%d", w, i)
				for {
					r, err := log.Append(context.Background(), []broker.Op{keyed(kept(event("a", text)), text)})
					if err == nil {
						ids[w] = append(ids[w], r[0].ID)
						break
					}
					if !errors.Is(err, broker.ErrUncertain) && !errors.Is(err, broker.ErrUnavailable) {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond)
				}
				done.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	faults := []func(){
		p.DropReplies, p.Cut,
		func() { do(t, s, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
		func() { do(t, s, "SCRIPT", "FLUSH") },
	}
	for i := 0; done.Load() < writers*each; i++ {
		faults[i%len(faults)]()
		time.Sleep(10 * time.Millisecond)
		p.Heal()
		time.Sleep(20 * time.Millisecond)
	}
	wg.Wait()
	at := map[string]broker.ID{}
	for _, e := range entries(t, s, keptStream) {
		text := string(e.Event.Data)
		if _, twice := at[text]; twice {
			t.Errorf("%s is there twice", text)
		}
		at[text] = e.ID
	}
	for w := range writers {
		for i, id := range ids[w] {
			if text := fmt.Sprintf("%d.%d", w, i); at[text] != id {
				t.Errorf("%s was acknowledged as %s, and is at %s", text, id, at[text])
			}
		}
	}
}

// TestWhatIsNotAppliedIsUncertain has a follower that applies nothing.
func TestWhatIsNotAppliedIsUncertain(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	log.applied.begin(broker.ID{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := log.Append(ctx, []broker.Op{keyed(event("a", "x"), "k")})
	if !errors.Is(err, broker.ErrUncertain) || !strings.Contains(err.Error(), "has not applied it yet") {
		t.Errorf("got %v", err)
	}
	all := entries(t, s, entry.Live)
	log.applied.reached(all[0].ID)
	if r := appendAll(t, log, keyed(event("a", "x"), "k")); !r[0].Repeated || r[0].ID != all[0].ID {
		t.Errorf("the second answer is %+v", r)
	}
}

// TestCommitterForgetsAFault: the next one begins with the shortest pause again.
func TestCommitterForgetsAFault(t *testing.T) {
	log := openLog(t, testConfig("localhost:1"))
	c := committer{log: log}
	c.unreachable()
	c.unreachable()
	if c.since.IsZero() || c.pause != 2*minPause {
		t.Errorf("unreachable: %+v", c)
	}
	if c.reachable(); !c.since.IsZero() || c.pause != 0 {
		t.Errorf("reachable: %+v", c)
	}
}

func TestWhatIsGivenBackAfterCloseEnds(t *testing.T) {
	q := newQueue()
	p := &pending{ops: make([]entry.Op, 1), done: make(chan appendResult, 1)}
	if err := q.Add(p); err != nil {
		t.Fatal(err)
	}
	batch := q.Take(nil)
	q.Close()
	q.GiveBack(batch)
	if o := <-p.done; !errors.Is(o.err, broker.ErrClosed) {
		t.Errorf("got %v", o.err)
	}
}

// TestQueueIsBounded uses a Redis that does not answer.
func TestQueueIsBounded(t *testing.T) {
	_, p, log := proxied(t, nil)
	p.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	send := func(n int) {
		wg.Go(func() {
			ops := make([]broker.Op, n)
			for i := range ops {
				ops[i] = event("a", "x")
			}
			_, _ = log.Append(ctx, ops)
		})
	}
	send(1)
	await(t, "the first is on its way", log.busy)
	for n := 0; n < maxQueued; n += maxAppend {
		send(maxAppend)
	}
	await(t, "the queue is full", func() bool { return log.waiting() == maxQueued })
	mustFail(t, log, broker.ErrUnavailable, "slower than the publishers", event("a", "y"))
	if _, err := log.Append(t.Context(), make([]broker.Op, maxAppend+1)); err == nil || !strings.Contains(err.Error(), "at most 4096 operations") {
		t.Errorf("a large Append: %v", err)
	}
	cancel()
	wg.Wait()
	if n := log.waiting(); n != 0 {
		t.Errorf("%d operations wait for nobody", n)
	}
}
