package redisadapter

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// agedStream fills a stream with n entries of so many bytes, which are n, n-1, …
// seconds old.
func agedStream(t testing.TB, s *redistest.Server, k *keys, name string, n, size int) {
	t.Helper()
	ctx := t.Context()
	now := s.Client().Time(ctx).Val().UnixMilli()
	before := "0-0 -"
	_, err := s.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range n {
			op := event("a", strings.Repeat("x", size))
			id := fmt.Sprintf("%d-0", now-int64(n-i)*1000)
			p.XAdd(ctx, &redis.XAddArgs{Stream: k.stream(name), ID: id, Values: []any{"m", "word " + before, "e", codec.Encode(&op)}})
			before = id + " word"
		}
		p.HSet(ctx, k.meta, "s:"+name, before)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func length(t testing.TB, s *redistest.Server, k *keys, name string) int64 {
	t.Helper()
	n, err := s.Client().XLen(t.Context(), k.stream(name)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStreamsAreTrimmedByAge(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	k := &log.keys
	if err := log.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	ages := map[string]broker.Policy{
		"minute": {Events: 1, Age: time.Minute, Bytes: 1},
		"hour":   {Events: 1, Age: time.Hour, Bytes: 1},
		"none":   {Events: 1, Bytes: 1},
	}
	began := server.Client().Time(t.Context()).Val()
	agedStream(t, server, k, entry.Live, 12_000, 10)
	for _, p := range ages {
		agedStream(t, server, k, entry.StreamOf(p), 12_000, 10)
	}
	var wg sync.WaitGroup
	for range 4 { // only one of them trims
		wg.Go(func() {
			if _, err := log.trim(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	older := int64(server.Client().Time(t.Context()).Val().Sub(began)/time.Second) + 2
	for name, want := range map[string]int64{
		entry.Live: 60, entry.StreamOf(ages["minute"]): 60, entry.StreamOf(ages["hour"]): 3600, entry.StreamOf(ages["none"]): 12_000,
	} {
		// Redis removes whole nodes of a stream: up to a hundred entries stay.
		if n := length(t, server, k, name); n < want-older || n > want+100 {
			t.Errorf("%s has %d entries, want %d", name, n, want)
		}
	}
	if err := server.Client().Del(t.Context(), k.stream(entry.StreamOf(ages["none"]))).Err(); err != nil {
		t.Fatal(err)
	}
	if holder := server.Client().Get(t.Context(), k.trim).Val(); holder != log.Node() {
		t.Errorf("%q trims", holder)
	}
	// A stream that does not exist is no error.
	server.Client().Del(t.Context(), k.trim)
	if _, err := log.trim(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStreamsAreTrimmedBySizeTheLargestFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := logConfig(server, t)
	cfg.MaxBytes = 8 << 20
	log := openLog(t, cfg)
	k := &log.keys
	if err := log.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	for i, n := range []int{500, 8000, 16000} {
		name := entry.StreamOf(broker.Policy{Events: 1 + i, Bytes: 1})
		agedStream(t, server, k, name, n, 1000)
		sizes[name] = n
	}
	if _, err := log.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	var total int64
	for name, n := range sizes {
		bytes, err := server.Client().MemoryUsage(t.Context(), k.stream(name), 0).Result()
		if err != nil {
			t.Fatal(err)
		}
		total += bytes
		left := length(t, server, k, name)
		if n == 500 && left != 500 || n > 500 && (left < 2500 || left > 3300) {
			t.Errorf("of %d entries %d are left", n, left)
		}
	}
	if total > cfg.MaxBytes+1<<20 || total < cfg.MaxBytes-1<<20 {
		t.Errorf("there are %d bytes left, want %d", total, cfg.MaxBytes)
	}
}

func TestLevelLetsTheLargestYield(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sizes []int64
		limit int64
		want  int64
	}{
		{nil, 10, 1<<63 - 1},
		{[]int64{3, 4}, 10, 1<<63 - 1},
		{[]int64{3, 20}, 10, 7},
		{[]int64{20, 1, 20}, 11, 5},
		{[]int64{20, 30, 40}, 9, 3},
		{[]int64{0, 0, 50}, 9, 9},
	} {
		if got := levelOf(c.sizes, c.limit); got != c.want {
			t.Errorf("%v within %d: %d, want %d", c.sizes, c.limit, got, c.want)
		}
	}
}

// lines is what a test logs, safe for concurrent use.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func TestRedisThatEvictsIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]int{"allkeys-lru": 1, "noeviction": 0} {
		server := redistest.Start(t, redistest.MaxMemory(64<<20, policy))
		var told lines
		log, err := Open(logConfig(server, t), slog.New(slog.NewTextHandler(&told, nil)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = log.Close() })
		r := record(t, log)
		r.waitReady()
		for range 2 {
			before := r.waitCount()
			if err := server.Client().ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				t.Fatal(err)
			}
			r.wait("Ready again", func() bool { return r.up && r.readies > before })
		}
		if n := told.count("maxmemory_policy=" + policy); n != want {
			t.Errorf("%s is told %d times", policy, n)
		}
	}
}

// waitCount is how often Ready was called.
func (r *recorder) waitCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readies
}

func TestStreamsThatCannotBeTrimmedAreTold(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACLUser("node", "secret", "~*", "+@all", "-xtrim", "-memory", "-info"))
	var told lines
	cfg := logConfig(server, t)
	cfg.Username, cfg.Password = "node", "secret"
	log, err := Open(cfg, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	often := quickIntervals
	often.trim = 200 * time.Millisecond
	log.intervals = often
	r := record(t, log)
	r.waitReady()
	appendSome(t, log, 1, "")
	other := openLog(t, cfg) // in turn with the first one
	other.intervals = often
	record(t, other).waitReady()
	awaitTrue(t, longEnough, "it to fail several times", func() bool {
		return told.count("cannot be trimmed") > 0 && rejected(t, server, "xtrim") >= 4
	})
	if n := told.count("cannot be trimmed"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	do(t, server, "ACL", "SETUSER", "node", "+xtrim", "+memory")
	awaitTrue(t, longEnough, "it to be over", func() bool { return told.count("trimmed again") > 0 })
}
