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
	if err != nil || !mine {
		return false, err
	}
	var clock *redis.TimeCmd
	var meta *redis.MapStringStringCmd
	_, err = primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		clock, meta = p.Time(ctx), p.HGetAll(ctx, l.keys.meta)
		return nil
	})
	if err != nil || len(meta.Val()) == 0 {
		return true, err
	}
	v, err := parseMeta(meta.Val())
	if err != nil {
		return true, err
	}
	cfg := l.cfg()
	for i := range v.streams {
		policy, ok := entry.PolicyOf(v.streams[i].name)
		if !ok {
			return true, errStream(v.streams[i].name)
		}
		age := policy.Age
		if v.streams[i].name == entry.Live {
			age = cfg.LiveAge
		}
		if age == 0 {
			continue
		}
		oldest := max(clock.Val().Add(-age).UnixMilli(), 0)
		err := trimStream(func() *redis.IntCmd {
			return primary.XTrimMinIDApprox(ctx, l.keys.stream(v.streams[i].name), fmt.Sprint(oldest), trimStep)
		})
		if err != nil {
			return true, err
		}
	}
	return true, l.shrink(ctx, primary, v.names(), cfg.MaxBytes)
}

// trimStream trims until there is nothing more to trim.
func trimStream(step func() *redis.IntCmd) error {
	for range trimRounds {
		if n, err := step().Result(); n == 0 || err != nil {
			return err
		}
	}
	return nil
}

// shrink brings the streams to at most limit bytes together.
func (l *Log) shrink(ctx context.Context, primary *redis.Client, names []string, limit int64) error {
	sizes := make([]*redis.IntCmd, len(names))
	counts := make([]*redis.IntCmd, len(names))
	_, err := primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			sizes[i] = p.MemoryUsage(ctx, l.keys.stream(name), trimSamples)
			counts[i] = p.XLen(ctx, l.keys.stream(name))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // Nil is the answer for a stream that does not exist
		return err
	}
	bytes := make([]int64, len(names))
	for i := range names {
		bytes[i] = sizes[i].Val()
	}
	level := levelOf(bytes, limit)
	for i, name := range names {
		if bytes[i] <= level {
			continue
		}
		keep := int64(float64(counts[i].Val()) * float64(level) / float64(bytes[i]))
		err := trimStream(func() *redis.IntCmd {
			return primary.XTrimMaxLenApprox(ctx, l.keys.stream(name), keep, trimStep)
		})
		if err != nil {
			return err
		}
	}
	return nil
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
