package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// What append.lua decides and the contract of a log does not test.

func do(t testing.TB, s *redistest.Server, args ...any) any {
	t.Helper()
	v, err := s.Client().Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

// inOneMinute returns when the minute of a server is not about to end.
func inOneMinute(t *testing.T, s *redistest.Server) {
	t.Helper()
	await(t, "a minute to begin", func() bool {
		now, err := s.Client().Time(context.Background()).Result()
		return err == nil && now.Second() < 58
	})
}

// TestKeysAreForgottenByTheMinute moves the hash of a minute into the past.
func TestKeysAreForgottenByTheMinute(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	k := newKeys("evstream:test")
	op := func() broker.Op { return keyed(event("a", "x"), "k") }
	first := appendAll(t, log, op())[0].ID
	minuteOf := func() int {
		t.Helper()
		for slot := range keyHashes {
			if m, is := meta(t, s)["k"+strconv.Itoa(slot)]; is {
				if minute, err := strconv.Atoi(m); err == nil && minute%keyHashes == slot {
					return minute
				}
			}
		}
		t.Fatalf("there is no minute in meta: %v", meta(t, s))
		return 0
	}
	field := func(minute int) string { return "k" + strconv.Itoa(minute%keyHashes) }
	move := func(from, to int) {
		t.Helper()
		if from%keyHashes != to%keyHashes {
			do(t, s, "RENAME", k.idempotent[from%keyHashes], k.idempotent[to%keyHashes])
		}
		do(t, s, "HDEL", k.meta, field(from))
		do(t, s, "HSET", k.meta, field(to), to)
	}
	now := minuteOf()
	for _, age := range []int{1, 5} {
		inOneMinute(t, s)
		was := minuteOf()
		now = int(do(t, s, "EVAL", "return math.floor(redis.call('TIME')[1] / 60)", 0).(int64))
		move(was, now-age)
		if r := appendAll(t, log, op()); !r[0].Repeated || r[0].ID != first {
			t.Errorf("after %d minutes it is %+v", age, r)
		}
	}
	move(now-5, now-7)
	r := appendAll(t, log, op())
	if r[0].Repeated || !r[0].ID.After(first) {
		t.Errorf("after 7 minutes it is %+v", r)
	}
	if m := meta(t, s)[field(now-7)]; m == strconv.Itoa(now-7) {
		t.Errorf("the hash of that minute is still there: %v", meta(t, s))
	}
	if n := len(do(t, s, "KEYS", "*:k?").([]any)); n != 1 {
		t.Errorf("there are %d hashes", n)
	}

	// After a small step back of the clock, the keys are still known.
	now = minuteOf()
	move(now, now+3)
	if again := appendAll(t, log, op(), keyed(event("a", "y"), "l")); !again[0].Repeated || again[0].ID != r[0].ID || again[1].Err != nil {
		t.Errorf("before its minute it is %+v", again)
	}
	if n := do(t, s, "HLEN", k.idempotent[(now+3)%keyHashes]); n != int64(2) {
		t.Errorf("the clock does not stand still: %d keys are of that minute, and meta is %v", n, meta(t, s))
	}

	// After a large step back, the clock counts as it is.
	inOneMinute(t, s)
	then := now + 3
	now = int(do(t, s, "EVAL", "return math.floor(redis.call('TIME')[1] / 60)", 0).(int64))
	move(then, now+9*keyHashes)
	appendAll(t, log, keyed(event("a", "z"), "m"))
	if m := meta(t, s); m[field(now)] != strconv.Itoa(now) {
		t.Errorf("the clock stands still: %v", m)
	}
	if n := do(t, s, "HLEN", k.idempotent[now%keyHashes]); n != int64(1) {
		t.Errorf("%d keys are of one minute and of another", n)
	}
}

// TestNumberOfKeysIsBounded counts those of each minute, and of the batch.
func TestNumberOfKeysIsBounded(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	if log.maxKeys != 1<<20 {
		t.Errorf("the bound is %d", log.maxKeys)
	}
	log.maxKeys = 8
	k := newKeys("evstream:test")
	appendAll(t, log, keyed(event("a", "x"), "k"))
	now := int(time.Now().Unix() / 60)
	half := k.idempotent[(now-1)%keyHashes]
	for _, minute := range []int{now - 1, now - 2} {
		do(t, s, "HSET", k.meta, "k"+strconv.Itoa(minute%keyHashes), minute)
		do(t, s, "HSET", k.idempotent[minute%keyHashes], 1, "", 2, "", 3, "", 4, "")
	}
	r := appendAll(t, log, keyed(event("a", "x"), "k"), keyed(event("a", "y"), "l"), event("a", "z"))
	if !r[0].Repeated || !errors.Is(r[1].Err, broker.ErrTooManyKeys) || r[2].Err != nil {
		t.Errorf("with all keys it is %+v", r)
	}
	if n := len(entries(t, s, entry.Live)); n != 2 {
		t.Errorf("%d entries", n)
	}
	do(t, s, "HDEL", half, 1, 2)
	r = appendAll(t, log, keyed(event("a", "y"), "l"), keyed(event("a", "y"), "m"))
	if r[0].Err != nil || !errors.Is(r[1].Err, broker.ErrTooManyKeys) {
		t.Errorf("with all but one it is %+v", r)
	}
}

func TestChangeOfRulesIsNoted(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	by := func(rules uint64, op broker.Op) broker.Op {
		op.Rules = rules
		return op
	}
	appendAll(t, log, by(1, event("a", "1")), set("a", "1"), event("b", "1"))
	if m := meta(t, s); m["rules"] != "1" || m["mixed"] != "" {
		t.Errorf("at first meta is %v", m)
	}
	r := appendAll(t, log, by(1, event("a", "2")), by(0xabc, kept(event("a", "3"))), by(0xabc, event("a", "4")), set("a", "2"))
	if m := meta(t, s); m["rules"] != "7" && m["rules"] != "abc" || m["mixed"] != r[0].ID.String() {
		t.Errorf("the last by other rules is %s, and meta is %v", r[0].ID, m)
	}
	last := r[3].ID
	appendAll(t, log, by(1, event("a", "5")))
	if m := meta(t, s); m["rules"] != "1" || m["mixed"] != last.String() {
		t.Errorf("the last by other rules is %s, and meta is %v", last, m)
	}
}

func TestIDsRiseWhereTheClockIsBehind(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	k := newKeys("evstream:test")
	appendAll(t, log, event("a", "1"))
	ahead := broker.ID{Ms: uint64(time.Now().Add(time.Hour).UnixMilli()), N: 5}
	do(t, s, "HSET", k.meta, "last", ahead.String()+" x")
	r := appendAll(t, log, event("a", "2"), set("a", "1"))
	if want := (broker.ID{Ms: ahead.Ms, N: 6}); r[0].ID != want {
		t.Errorf("after %s comes %s", ahead, r[0].ID)
	}
	refused := appendAll(t, log, set("a", "1", broker.Condition{Kind: broker.IfAbsent}))[0]
	if refused.State == nil || refused.State.Written != ahead.Ms {
		t.Errorf("written at %+v, not %d", refused.State, ahead.Ms)
	}
}

func TestLogThatIsGoneBeginsAnew(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	k := newKeys("evstream:test")
	appendAll(t, log, keyed(kept(event("a", "1")), "k"), set("a", "1"))
	before := meta(t, s)
	do(t, s, "DEL", k.meta)
	r := appendAll(t, log, keyed(kept(event("a", "2")), "k"), set("a", "2", broker.Condition{Kind: broker.IfAbsent}))
	if r[0].Err != nil || r[0].Repeated || !r[1].Created {
		t.Errorf("something of the old log is left: %+v", r)
	}
	after := meta(t, s)
	if after["log"] == before["log"] || after["bytes"] != "2" {
		t.Errorf("meta was %v, is %v", before, after)
	}
	if all := entries(t, s, keptStream); len(all) != 1 || string(all[0].Event.Data) != "2" || all[0].before != none {
		t.Errorf("the stream has %+v", all)
	}
	if all := entries(t, s, entry.Live); len(all) != 2 || all[0].Kind != codec.KindStream || all[0].before != none {
		t.Errorf("live has %+v", all)
	}
	born, ok := broker.ParseID(after["born"])
	if !ok || !r[0].ID.After(born) {
		t.Errorf("born at %s, and the first is %s", after["born"], r[0].ID)
	}
}

func TestValuesThatRedisHasEvictedAreGone(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	k := newKeys("evstream:test")
	bounded := func(op broker.Op) broker.Result {
		op.State = op.State.Within(broker.StateBounds{Count: 10, Bytes: 10})
		return appendAll(t, log, op)[0]
	}
	bounded(set("a", "12345678"))
	do(t, s, "DEL", k.value)
	if r := bounded(set("a", "1", broker.Condition{Kind: broker.IfAbsent})); !errors.Is(r.Err, broker.ErrStateMismatch) || r.State.Value != nil {
		t.Errorf("without its value it is %+v %+v", r, r.State)
	}
	do(t, s, "DEL", k.state)
	if r := bounded(set("a", "12345678")); r.Err != nil || !r.Created || meta(t, s)["bytes"] != "9" {
		t.Errorf("after it was evicted it is %+v, and meta %v", r, meta(t, s))
	}
}

func TestValueThatDoesNotGrowIsTakenWhereTheBoundsHaveShrunk(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	bounded := func(count, bytes int, op broker.Op) error {
		op.State = op.State.Within(broker.StateBounds{Count: count, Bytes: bytes})
		return appendAll(t, log, op)[0].Err
	}
	appendAll(t, log, set("a", "1234567890"), set("b", "1234567890"))
	for _, tt := range []struct {
		count, bytes int
		op           broker.Op
		want         error
	}{
		{2, 15, set("a", "2234567890"), nil},
		{2, 15, set("a", "123456789"), nil},
		{2, 15, set("a", "1234567890"), broker.ErrStateFull},
		{1, 100, set("a", "12345678901"), nil},
		{2, 100, set("c", "1"), broker.ErrStateFull},
	} {
		if err := bounded(tt.count, tt.bytes, tt.op); !errors.Is(err, tt.want) {
			t.Errorf("%s within %d, %d: %v, want %v", tt.op.State.Value, tt.count, tt.bytes, err, tt.want)
		}
	}
}

func TestLogOfAnotherFormatIsLeftAlone(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	k := newKeys("evstream:test")
	for _, tt := range []struct{ field, value, want string }{
		{"format", "2", "has format 2, and this version knows format 1"},
		{"last", "nothing", "is damaged"},
	} {
		appendAll(t, log, event("a", "1"))
		do(t, s, "HSET", k.meta, tt.field, tt.value)
		before := meta(t, s)
		n := len(entries(t, s, entry.Live))
		_, err := log.Append(context.Background(), []broker.Op{event("a", "2"), set("a", "1")})
		if !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want one with %q", err, tt.want)
		}
		if after := meta(t, s); fmt.Sprint(after) != fmt.Sprint(before) || len(entries(t, s, entry.Live)) != n {
			t.Errorf("meta was %v, is %v", before, after)
		}
		do(t, s, "FLUSHALL")
	}
}

// TestKeysOfOthersAreFound: the script meets them before its first write, and
// after it.
func TestKeysOfOthersAreFound(t *testing.T) {
	s := redistest.Start(t)
	k := newKeys("evstream:test")
	var out strings.Builder
	log, err := Open(testConfig(s.Addr()), slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()

	do(t, s, "SET", k.meta, "x")
	_, err = log.Append(context.Background(), []broker.Op{event("a", "1")})
	if !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), "use another prefix") {
		t.Errorf("meta of others: %v", err)
	}
	do(t, s, "FLUSHALL")
	appendAll(t, log, event("a", "1"))
	do(t, s, "SET", k.value, "x")
	_, err = log.Append(context.Background(), []broker.Op{set("a", "1")})
	if !errors.Is(err, broker.ErrUncertain) {
		t.Errorf("values of others: %v", err)
	}
	do(t, s, "DEL", k.value)
	appendAll(t, log, event("a", "2"))
	_ = log.Close()
	if n := strings.Count(out.String(), "may be damaged"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, &out)
	}
}

// TestPurgeReachesStreamsThatOthersHaveMade: b purges, and does not know yet the
// streams that a has made.
func TestPurgeReachesStreamsThatOthersHaveMade(t *testing.T) {
	s := redistest.Start(t)
	a, b := openLog(t, testConfig(s.Addr())), openLog(t, testConfig(s.Addr()))
	var names []string
	for i := range 4 {
		op := event("c", "1")
		op.History = broker.Policy{Events: 1 + i, Bytes: 1 << 20}
		names = append(names, entry.StreamOf(op.History))
		appendAll(t, a, op)
		r := appendAll(t, b, event("d", "1"), broker.Op{Kind: broker.KindPurge, Channel: "c"}, event("d", "2"))
		for _, name := range append(slices.Clone(names), entry.Live) {
			all := entries(t, s, name)
			if !slices.ContainsFunc(all, func(e stored) bool { return e.ID == r[1].ID && e.Kind == broker.KindPurge && e.Channel == "c" }) {
				t.Errorf("%s has no purge %s: %+v", name, r[1].ID, all)
			}
		}
		if !r[1].ID.After(r[0].ID) || !r[2].ID.After(r[1].ID) {
			t.Errorf("results %+v", r)
		}
	}
}
