package redisadapter

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// appendSome appends n events that are kept, and returns the last id.
func appendSome(t testing.TB, log *Log, n int, name string) broker.ID {
	t.Helper()
	ops := make([]broker.Op, n)
	for i := range ops {
		ops[i] = kept(event("a", fmt.Sprint(name, i)))
	}
	return appendAll(t, log, ops...)[n-1].ID
}

// datas are the data of what was applied.
func (r *recorder) datas() (data []string) {
	for _, e := range r.all() {
		data = append(data, e.data)
	}
	return data
}

// wantDatas fails the test unless the entries are n of each name.
func (r *recorder) wantDatas(n int, names ...string) {
	r.t.Helper()
	var want []string
	for _, name := range names {
		for i := range n {
			want = append(want, fmt.Sprint(name, i))
		}
	}
	if got := r.datas(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Fatalf("there stands %v, want %v", got, want)
	}
}

func keptPolicyOf(t testing.TB) broker.Policy {
	t.Helper()
	p, ok := entry.PolicyOf(keptStream)
	if !ok {
		t.Fatal("the policy of the stream is not known")
	}
	return p
}

func TestNodeThatLagsIsToldWhatWasTrimmedMeanwhile(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr())
	cfg := logConfig(server, t)
	near := openLog(t, cfg)
	cfg.Addresses = []string{proxy.Addr()}
	far := record(t, openLog(t, cfg))
	far.waitReady()
	before := appendSome(t, near, 10, "before ")
	appendAll(t, near, set("s", "1"))
	far.sync()
	far.mu.Lock()
	last := far.last
	far.mu.Unlock()

	proxy.Freeze()
	far.waitCut()
	trimmed := appendSome(t, near, 10, "trimmed ")
	gone := appendAll(t, near, set("s", "2"), set("u", "3"))[1].ID
	first := appendSome(t, near, 1, "after ")
	trimTo(t, server, near, "s:"+keptStream, first)
	if err := server.Client().XTrimMaxLen(context.Background(), near.keys.stream(entry.Live), 0).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.Heal()
	o := far.waitStarts(2)
	if o.ID != last || o.Gap != broker.ReasonTrimmed || len(o.Lost) != 2 ||
		o.Lost[keptPolicyOf(t)] != trimmed || o.Lost[broker.Policy{}] != gone {
		t.Errorf("it starts again with %+v, after %s and %s", o, before, last)
	}
	values := map[string]string{}
	for _, e := range o.States {
		values[e.Channel] = string(e.State.Value)
	}
	if len(values) != 2 || values["s"] != "2" || values["u"] != "3" {
		t.Errorf("the values are %v", values)
	}
	far.waitFor(first)
	if all := far.datas(); len(all) != 12 || all[11] != "after 0" {
		t.Errorf("the data are %q", all)
	}
}

// trimTo removes what is older than id.
func trimTo(t testing.TB, s *redistest.Server, l *Log, name string, id broker.ID) {
	t.Helper()
	key := l.keys.stream(strings.TrimPrefix(name, "s:"))
	if err := s.Client().XTrimMinID(context.Background(), key, id.String()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatRedisHasForgottenIsVoidAtEveryNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodes(t, logConfig(server, t), 3)
	tr := publish(t, 8, mixed, logs...)
	tr.waitAcked(500)
	if err := server.Client().FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	var origins []broker.Origin
	for _, r := range recorders {
		origins = append(origins, r.waitStarts(2))
	}
	tr.waitAcked(500)
	tr.stop()
	for _, r := range recorders {
		r.sync()
	}
	same(t, recorders[0], recorders[1:]...)
	born := recorders[0].starts[0].Born
	for i, o := range origins {
		if o.Gap != broker.ReasonDiverged || !o.ID.IsZero() || !o.Born.After(born) || len(recorders[i].starts) != 2 {
			t.Errorf("node %d starts %d times, then from %s of %s with %q", i, len(recorders[i].starts), o.ID, o.Born, o.Gap)
		}
	}
}

// failover is a primary, and a replica that lags more and more.
type failover struct {
	t                *testing.T
	primary, replica *redistest.Server
	between          *redistest.Proxy // between them
	proxy            *redistest.Proxy // for nodes, to the primary
}

func startFailover(t *testing.T) *failover {
	t.Helper()
	f := &failover{t: t, primary: redistest.Start(t)}
	f.between = redistest.StartProxy(t, f.primary.Addr())
	f.proxy = redistest.StartProxy(t, f.primary.Addr())
	host, port, _ := net.SplitHostPort(f.between.Addr())
	f.replica = redistest.Start(t, redistest.Config("replicaof "+host+" "+port))
	return f
}

// cutReplica cuts the replica off, once it has all entries.
func (f *failover) cutReplica(meta string) {
	f.t.Helper()
	ctx := f.t.Context()
	want := f.primary.Client().HGet(ctx, meta, "last").Val()
	for f.replica.Client().HGet(ctx, meta, "last").Val() != want {
		if ctx.Err() != nil {
			f.t.Fatal("the replica does not follow")
		}
	}
	f.between.Cut()
}

// promote makes the replica the primary.
func (f *failover) promote() {
	f.t.Helper()
	f.primary.Kill()
	f.replica.ReplicaOf(nil)
}

func TestWhatAFailoverHasLostIsVoidAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, writes := range map[string]bool{
		"before anything is written":       false,
		"after others have written on top": true,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFailover(t)
			cfg := logConfig(f.primary, t)
			cfg.Addresses = []string{f.proxy.Addr()}
			logs, recorders := nodes(t, cfg, 2)
			appendSome(t, logs[0], 10, "common ")
			common := appendAll(t, logs[1], set("s", "1"))[0].ID
			f.cutReplica(logs[0].keys.meta)
			appendAll(t, logs[0], set("s", "2"), broker.Op{Kind: broker.KindPurge, Channel: "a"}, event("b", "lost"))
			appendSome(t, logs[0], 10, "lost ")
			for _, r := range recorders {
				r.sync()
			}
			f.proxy.Cut()
			f.promote()
			want := []string{
				"common 0", "common 1", "common 2", "common 3", "common 4", "common 5", "common 6", "common 7",
				"common 8", "common 9", "1",
			}
			var last broker.ID
			if writes {
				cfg := cfg
				cfg.Addresses = []string{f.replica.Addr()}
				other := openLog(t, cfg)
				appendAll(t, other, set("u", "3"))
				last = appendSome(t, other, 2, "new ")
				want = append(want, "3", "new 0", "new 1")
			}
			f.proxy.Retarget(f.replica.Addr())
			f.proxy.Heal()
			for _, r := range recorders {
				o := r.waitStarts(2)
				if o.ID != common || o.Gap != broker.ReasonDiverged || len(o.Lost) != 0 {
					t.Errorf("it starts again from %s with %q, lost %v; common is %s", o.ID, o.Gap, o.Lost, common)
				}
				r.waitFor(last)
				if got := r.datas(); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("the data are %q, want %q", got, want)
				}
				if v := o.States[0]; v.Channel == "s" && string(v.State.Value) != "1" {
					t.Errorf("the value is %s", v.State.Value)
				}
			}
			appendSome(t, logs[0], 1, "after ")
			recorders[1].sync()
			same(t, recorders[0], recorders[1])
		})
	}
}

// byHand appends an entry as another primary might have it, with any id.
func byHand(t testing.TB, c *redis.Client, k *keys, name string, id broker.ID, word, data string) {
	t.Helper()
	op := event("a", data)
	byHandEntry(t, c, k, name, id, word, string(codec.Encode(&op)))
}

func byHandEntry(t testing.TB, c *redis.Client, k *keys, name string, id broker.ID, word, text string) {
	t.Helper()
	ctx := context.Background()
	before, err := c.HGet(ctx, k.meta, "s:"+name).Result()
	if err != nil {
		t.Fatal(err)
	}
	err = c.XAdd(ctx, &redis.XAddArgs{
		Stream: k.stream(name), ID: id.String(), Values: []any{"m", word + " " + before, "e", text},
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
	point := id.String() + " " + word
	values := []any{"s:" + name, point}
	if last, _ := entry.ParsePoint(c.HGet(ctx, k.meta, "last").Val()); id.After(last.ID) {
		values = append(values, "last", point)
	}
	if err := c.HSet(ctx, k.meta, values...).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAnIDThatWasGivenTwiceIsTwoEntries(t *testing.T) {
	t.Parallel()
	f := startFailover(t)
	cfg := logConfig(f.primary, t)
	cfg.Addresses = []string{f.proxy.Addr()}
	log := openLog(t, cfg)
	r := record(t, log)
	r.waitReady()
	common := appendSome(t, log, 3, "common ")
	f.cutReplica(log.keys.meta)
	lost := appendSome(t, log, 1, "lost ")
	r.sync()
	f.proxy.Cut()
	f.promote()
	// As a primary whose clock is behind.
	byHand(t, f.replica.Client(), &log.keys, keptStream, lost, "another", "new 0")
	f.proxy.Retarget(f.replica.Addr())
	f.proxy.Heal()
	if o := r.waitStarts(2); o.ID != common || o.Gap != broker.ReasonDiverged {
		t.Errorf("it starts again from %s with %q, common is %s", o.ID, o.Gap, common)
	}
	r.waitFor(lost)
	if got := r.datas(); fmt.Sprint(got) != "[common 0 common 1 common 2 new 0]" {
		t.Errorf("the data are %q", got)
	}
}

func TestEntryBelowWhatWasAppliedIsFound(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	r := record(t, log)
	r.waitReady()
	appendSome(t, log, 1, "kept ")
	second := appendAll(t, log, event("b", "live 0"))[0].ID
	for server.Client().Time(t.Context()).Val().UnixMilli() <= int64(second.Ms) {
		// The next entry is of another millisecond, so that there is room between.
	}
	third := appendAll(t, log, event("b", "live 1"))[0].ID
	r.sync()
	strange := broker.ID{Ms: second.Ms, N: second.N + 1}
	if !third.After(strange) {
		t.Fatalf("%s is not between %s and %s", strange, second, third)
	}
	byHand(t, server.Client(), &log.keys, keptStream, strange, "strange", "below")
	// The next entry names it. Append need not succeed: the node applies it later.
	_, _ = log.Append(t.Context(), []broker.Op{kept(event("a", "after 0"))})
	o := r.waitStarts(2)
	if o.ID != second || o.Gap != broker.ReasonDiverged {
		t.Errorf("it starts again from %s with %q", o.ID, o.Gap)
	}
	if got := r.datas(); fmt.Sprint(got) != "[kept 0 live 0 below live 1 after 0]" {
		t.Errorf("the data are %q", got)
	}
}

func TestStreamThatWasRemovedIsMissedByWhoHasNotReadIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr())
	cfg := logConfig(server, t)
	near := openLog(t, cfg)
	r := record(t, near)
	cfg.Addresses = []string{proxy.Addr()}
	far := record(t, openLog(t, cfg))
	r.waitReady()
	far.waitReady()
	appendSome(t, near, 3, "before ")
	far.sync()
	proxy.Freeze()
	far.waitCut()
	lost := appendSome(t, near, 3, "lost ")
	r.sync()
	if err := server.Client().Del(context.Background(), near.keys.stream(keptStream)).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.Heal()
	o := far.waitStarts(2)
	if o.Gap != broker.ReasonTrimmed || len(o.Lost) != 1 || o.Lost[keptPolicyOf(t)] != lost {
		t.Errorf("who lagged starts again with %+v, lost is %s", o, lost)
	}
	far.wantDatas(3, "before ")
	fresh := record(t, openLog(t, logConfig(server, t)))
	o = fresh.waitStarts(1)
	if len(o.Lost) != 1 || o.Lost[keptPolicyOf(t)] != lost || o.ID.After(o.Lost[keptPolicyOf(t)]) {
		t.Errorf("a new node starts with %+v, lost is %s", o, lost)
	}
	appendSome(t, near, 3, "after ")
	for _, n := range []*recorder{r, far, fresh} {
		n.sync()
	}
	r.wantDatas(3, "before ", "lost ", "after ")
	far.wantDatas(3, "before ", "after ")
	fresh.wantDatas(3, "after ")
	if n := r.startsNow(); n != 1 {
		t.Errorf("who had read it starts %d times", n)
	}
}

func TestValuesThatWereEvictedAreGoneAtEveryNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodesAt(t, logConfig(server, t), 2, quickIntervals)
	appendSome(t, logs[0], 3, "kept ")
	appendAll(t, logs[0], set("s", "1"), set("u", "2"))
	for n, key := range []string{logs[0].keys.value, logs[0].keys.state} {
		before := broker.ID{}
		for _, r := range recorders {
			r.sync()
			before = r.last
		}
		if err := server.Client().Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range recorders {
			o := r.waitStarts(2 + n)
			if o.Gap != broker.ReasonDiverged || o.ID != before || len(o.States) != 0 || len(o.Lost) != 0 {
				t.Errorf("without %s it starts again with %+v, before was %s", key, o, before)
			}
		}
		results := appendAll(t, logs[1], set("s", "1", broker.Condition{Kind: broker.IfAbsent}))
		if !results[0].Created {
			t.Errorf("without %s: %+v", key, results[0])
		}
	}
	for _, r := range recorders {
		r.sync()
	}
	same(t, recorders[0], recorders[1])
	if fresh := record(t, openLog(t, logConfig(server, t))).waitStarts(1); len(fresh.States) != 1 {
		t.Errorf("a new node has the values %v", fresh.States)
	}
}

func TestValuesThatWereEvictedAreGoneAlsoWhereOneIsSetAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodesAt(t, logConfig(server, t), 2, quickIntervals)
	appendAll(t, logs[0], set("s", "1"), set("u", "2"))
	for _, r := range recorders {
		r.sync()
	}
	if err := server.Client().Del(t.Context(), logs[0].keys.value, logs[0].keys.state).Err(); err != nil {
		t.Fatal(err)
	}
	appendAll(t, logs[1], set("s", "3"))
	for _, r := range recorders {
		if o := r.waitStarts(2); o.Gap != broker.ReasonDiverged || len(o.States) != 1 {
			t.Errorf("it starts again with %+v", o)
		}
		r.sync()
	}
	same(t, recorders[0], recorders[1])
}
