package redisadapter

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// policyNumber is one of many policies.
func policyNumber(n int) broker.Policy {
	return broker.Policy{Events: 100 + n, Age: time.Hour, Bytes: 1 << 20}
}

// mixed are events under several policies and none, purges and values.
func mixed(w, n int, data string) broker.Op {
	op := event(fmt.Sprint("c", w%3), data)
	op.Rules = 7
	switch n % 16 {
	case 0:
		return broker.Op{Kind: broker.KindPurge, Channel: "c0"}
	case 1:
		return set(fmt.Sprint("s", w), fmt.Sprintf("%q", data))
	case 2, 3, 4:
	default:
		op.History = policyNumber((w + n) % 3)
	}
	return op
}

// nodes opens several logs on one Redis, and follows them.
func nodes(t *testing.T, cfg Config, n int) ([]*Log, []*recorder) {
	t.Helper()
	return nodesAt(t, cfg, n, defaultIntervals)
}

// quickIntervals are for tests that wait for several leases.
var quickIntervals = intervals{beat: time.Second, lease: 3500 * time.Millisecond, fresh: 1250 * time.Millisecond, trim: time.Second}

func nodesAt(t *testing.T, cfg Config, n int, p intervals) ([]*Log, []*recorder) {
	t.Helper()
	logs, recorders := make([]*Log, n), make([]*recorder, n)
	for i := range logs {
		logs[i] = openLog(t, cfg)
		logs[i].intervals = p
		recorders[i] = record(t, logs[i])
	}
	for _, r := range recorders {
		r.waitReady()
	}
	return logs, recorders
}

func TestNodesApplyTheSameInTheSameOrder(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodes(t, logConfig(server, t), 3)
	tr := publish(t, 8, mixed, logs...)
	tr.waitAcked(2000)
	late := record(t, openLog(t, logConfig(server, t))) // it loads while others write
	tr.waitAcked(500)
	tr.stop()
	recorders = append(recorders, late)
	for _, r := range recorders {
		r.sync()
	}
	same(t, recorders[0], recorders[1:]...)
	if n := len(recorders[0].all()); n < 2500 {
		t.Errorf("%d entries were applied", n)
	}
	tr.nothingLost(recorders[0])
	for i, r := range recorders {
		if len(r.starts) != 1 || len(r.cuts) != 1 {
			t.Errorf("node %d: %d starts, cuts %v", i, len(r.starts), r.cuts)
		}
	}
}

// inRedis are the ids of all entries of a log in Redis, in order, except those
// that name streams.
func inRedis(t testing.TB, c redis.UniversalClient, k *keys) []broker.ID {
	t.Helper()
	ctx := t.Context()
	known := map[broker.ID]bool{}
	for field := range c.HGetAll(ctx, k.meta).Val() {
		name, is := strings.CutPrefix(field, "s:")
		if !is {
			continue
		}
		messages, err := c.XRange(ctx, k.stream(name), "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			id, ok := broker.ParseID(m.ID)
			if text, _ := m.Values["e"].(string); ok && codec.Decode(id, text).Kind != codec.KindStream {
				known[id] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(known), broker.ID.Compare)
}

// wantIDs fails the test unless the entries are those of Redis.
func (r *recorder) wantIDs(want []broker.ID) {
	r.t.Helper()
	got := r.all()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i].id != want[i] {
			r.t.Fatalf("of %d entries %d were applied, and number %d is another: %v, in Redis %v",
				len(want), len(got), i, got[min(i, len(got)):min(i+1, len(got))], want[min(i, len(want)):min(i+1, len(want))])
		}
	}
}

// uneven appends many events to one stream and few to others, purges, and
// sometimes an event that makes a new stream.
func uneven(t testing.TB, log *Log, n int) {
	t.Helper()
	for from := 0; from < n; from += 100 {
		ops := make([]broker.Op, 100)
		for i := range ops {
			op := kept(event("a", strings.Repeat("x", from%1000)))
			switch {
			case i == 50 && from%1000 == 0:
				op.History = policyNumber(from / 1000)
			case i == 60:
				op.History = policyNumber(0)
			case i == 70:
				op = event("b", "live")
			case i == 80 && from%300 == 0:
				op = broker.Op{Kind: broker.KindPurge, Channel: "c"}
			}
			ops[i] = op
		}
		appendAll(t, log, ops...)
	}
}

func TestStreamsOfManyPagesAreMerged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	uneven(t, log, 12000)
	r := &recorder{t: t, log: openLog(t, logConfig(server, t)), changed: make(chan struct{})}
	r.follow()
	r.waitReady()
	r.wantIDs(inRedis(t, server.Client(), &log.keys))
	// It falls behind by several pages of each stream, new ones included.
	held := &recorder{t: t, log: openLog(t, logConfig(server, t)), changed: make(chan struct{}), hold: make(chan struct{})}
	held.follow()
	appendSome(t, log, 1, "so that there is something to apply ")
	uneven(t, log, 12000)
	close(held.hold)
	for _, r := range []*recorder{r, held} {
		r.waitReady()
		r.sync()
		r.wantIDs(inRedis(t, server.Client(), &log.keys))
		notAgain(t, r)
		if len(r.cuts) != 1 {
			t.Errorf("cuts %v", r.cuts)
		}
	}
}

func TestNewStreamsAreReadFromTheirBeginning(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodes(t, logConfig(server, t), 2)
	tr := publish(t, 4, func(w, n int, data string) broker.Op {
		op := event("a", data)
		op.History, op.Rules = policyNumber(n/3), uint64(1+n/3)
		return op
	}, logs...)
	tr.waitAcked(600)
	tr.stop()
	for _, r := range recorders {
		r.sync()
		r.wantIDs(inRedis(t, server.Client(), &logs[0].keys))
		tr.nothingLost(r)
		if len(r.cuts) != 1 {
			t.Errorf("cuts %v", r.cuts)
		}
	}
	notAgain(t, recorders...)
	fresh := record(t, openLog(t, logConfig(server, t)))
	o := fresh.waitStarts(1)
	fresh.wantIDs(inRedis(t, server.Client(), &logs[0].keys))
	if o.Mixed.IsZero() || len(o.Lost) != 0 || o.ID != o.Born || o.Gap != "" || !o.Durable {
		t.Errorf("a node that comes later starts with %+v", o)
	}
}

func TestNodeThatStartsIsToldWhatIsNotThereAnyMore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	record(t, log).waitReady()
	old := appendSome(t, log, 5, "old ")
	a := appendAll(t, log, set("s", "1"), set("u", "2"))[1].ID
	first := appendSome(t, log, 5, "new ")
	other := event("b", "x")
	other.History, other.Rules = policyNumber(1), 7
	b := appendAll(t, log, other)[0].ID
	trimTo(t, server, log, "s:"+keptStream, first)
	for _, key := range []string{log.keys.stream(entry.Live), log.keys.stream(entry.StreamOf(policyNumber(1)))} {
		if err := server.Client().XTrimMaxLen(t.Context(), key, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	o := record(t, openLog(t, logConfig(server, t))).waitStarts(1)
	before := broker.ID{Ms: first.Ms, N: first.N - 1} // of one append
	if o.Lost[keptPolicyOf(t)] != before || o.Lost[policyNumber(1)] != b || !o.Lost[broker.Policy{}].After(a) || len(o.Lost) != 3 {
		t.Errorf("lost is %v, not %s, %s and above %s", o.Lost, before, b, a)
	}
	if old.After(o.ID) || o.ID.After(before) || o.Born.After(o.ID) || len(o.States) != 2 {
		t.Errorf("it starts with %+v", o)
	}
}

func TestEntriesOfNewerNodesAreSkippedAndToldOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var told bytes.Buffer
	cfg := logConfig(server, t)
	log, err := Open(cfg, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	r := record(t, log)
	r.waitReady()
	last := appendAll(t, log, event("a", "x"))[0].ID
	for i, text := range []string{"\x02\x01new", "\x02\x01new", "\x01\x63new", "\x01\x63new", "\x02\xffnew"} {
		last.N++
		byHandEntry(t, server.Client(), &log.keys, entry.Live, last, fmt.Sprint("word", i), text)
	}
	r.waitFor(last)
	var got []string
	for _, e := range r.all() {
		got = append(got, fmt.Sprint(e.kind))
	}
	if fmt.Sprint(got) != "[1 1 1 99 99 255]" {
		t.Errorf("the kinds %v were applied", got)
	}
	r.stop()
	if n := strings.Count(told.String(), "newer node"); n != 3 {
		t.Errorf("it was told %d times: %s", n, told.String())
	}
}
