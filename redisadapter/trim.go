package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

const (
	// trimStep is how many entries one command trims, during which the server does
	// nothing else, and trimRounds how many commands follow each other.
	trimStep   = 10000
	trimRounds = 100
	// trimSamples is how many nodes of a stream MEMORY USAGE samples.
	trimSamples = 50
)

// trims keeps the streams within their bounds, until ctx ends.
func (l *Log) trims(ctx context.Context) {
	var faults faultLog
	for {
		select {
		case <-time.After(l.intervals.trim/2 + rand.N(l.intervals.trim)): //nolint:gosec // jitter
		case <-ctx.Done():
			return
		}
		mine, err := l.trim(ctx)
		if reply, is := errors.AsType[redis.Error](err); is && outcomeOf(err, true) == refused {
			if text := reply.Error(); faults.begins(text) {
				l.logger.Error("the log in Redis cannot be trimmed, it grows without bound", slog.String("error", text))
			}
		}
		// That Redis is out of reach is logged by who publishes and who follows.
		if mine && err == nil {
			if after, over := faults.ends(); over {
				l.logger.Info("the log in Redis is trimmed again", slog.Duration("after", after))
			}
		}
	}
}

// trim trims the streams, unless it is another node's turn. mine reports
// whether it was this one's.
func (l *Log) trim(ctx context.Context) (mine bool, err error) {
	primary, release, err := l.primary(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	mine, err = primary.SetNX(ctx, l.keys.trim, l.node, l.intervals.trim*4/5).Result()
	l.room.noted(err)
	if noMemory(err) {
		// The turn needs memory, and what it allows frees memory. It only saves
		// work: that two nodes trim at a time harms nothing.
		mine, err = true, nil
	}
	if err != nil || !mine {
		return false, err
	}
	_, err = l.trimAll(ctx, primary)
	return true, err
}

// trimAll removes what is past its time, or too much, and returns how many
// entries of streams that were. It needs no memory in Redis.
func (l *Log) trimAll(ctx context.Context, primary *redis.Client) (removed int64, err error) {
	var clock *redis.TimeCmd
	var meta *redis.MapStringStringCmd
	_, err = primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		clock, meta = p.Time(ctx), p.HGetAll(ctx, l.keys.meta)
		return nil
	})
	if err != nil || len(meta.Val()) == 0 {
		return 0, err
	}
	v, err := parseMeta(meta.Val())
	if err != nil {
		return 0, err
	}
	cfg := l.cfg()
	for i := range v.streams {
		policy, ok := entry.PolicyOf(v.streams[i].name)
		if !ok {
			return removed, errStream(v.streams[i].name)
		}
		age := policy.Age
		if v.streams[i].name == entry.Live {
			age = cfg.LiveAge
		}
		if age == 0 {
			continue
		}
		oldest := max(clock.Val().Add(-age).UnixMilli(), 0)
		n, err := trimStream(func() *redis.IntCmd {
			return primary.XTrimMinIDApprox(ctx, l.keys.stream(v.streams[i].name), fmt.Sprint(oldest), trimStep)
		})
		if removed += n; err != nil {
			return removed, err
		}
	}
	n, err := l.shrink(ctx, primary, v.names(), cfg.MaxBytes)
	if removed += n; err != nil {
		return removed, err
	}
	// What is left of a batch of no operations is that it removes the idempotency
	// keys that are old, where nobody publishes any more.
	q := request{streams: []string{entry.Live}}
	_, err = q.run(ctx, primary, &l.keys)
	return removed, err
}

// trimStream trims until there is nothing more to trim.
func trimStream(step func() *redis.IntCmd) (removed int64, err error) {
	for range trimRounds {
		n, err := step().Result()
		if removed += n; n == 0 || err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// shrink brings the streams to at most limit bytes together.
func (l *Log) shrink(ctx context.Context, primary *redis.Client, names []string, limit int64) (removed int64, err error) {
	sizes := make([]*redis.IntCmd, len(names))
	counts := make([]*redis.IntCmd, len(names))
	_, err = primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			sizes[i] = p.MemoryUsage(ctx, l.keys.stream(name), trimSamples)
			counts[i] = p.XLen(ctx, l.keys.stream(name))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // Nil is the answer for a stream that does not exist
		return 0, err
	}
	bytes := make([]int64, len(names))
	total := int64(0)
	for i := range names {
		bytes[i] = sizes[i].Val()
		total += bytes[i]
	}
	l.figures.size.Store(total)
	level := levelOf(bytes, limit)
	for i, name := range names {
		if bytes[i] <= level {
			continue
		}
		keep := int64(float64(counts[i].Val()) * float64(level) / float64(bytes[i]))
		n, err := trimStream(func() *redis.IntCmd {
			return primary.XTrimMaxLenApprox(ctx, l.keys.stream(name), keep, trimStep)
		})
		if removed += n; err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// levelOf is the size to which all larger ones must shrink, so that the sum is
// within limit.
func levelOf(sizes []int64, limit int64) int64 {
	sorted := slices.Sorted(slices.Values(sizes))
	for i, size := range sorted {
		// The sum, if all from here on were as large as this one.
		if rest := int64(len(sorted) - i); size*rest > limit {
			return limit / rest
		}
		limit -= size
	}
	return 1<<63 - 1
}
