package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
)

// removed reads which channels had their value removed, and when that happened
// last to a channel that is not among them. Redis keeps only the time of a
// removal: the ids are the highest of that millisecond.
func (fo *follow) removed(ctx context.Context, w *link) (map[string]broker.ID, broker.ID, error) {
	keys := &fo.log.keys
	gone, err := w.conn.ZRangeWithScores(ctx, keys.gone, 0, -1).Result()
	if err != nil {
		return nil, broker.ID{}, w.reason(fmt.Errorf("loading the removed values: %w", err))
	}
	removed := make(map[string]broker.ID, len(gone))
	for _, z := range gone {
		if channel, ok := z.Member.(string); ok && z.Score > 0 {
			removed[channel] = broker.ID{Ms: uint64(z.Score), N: math.MaxUint64}
		}
	}
	// This is read last, so that it covers what leaves the set meanwhile.
	text, err := w.conn.HGet(ctx, keys.meta, "forgot").Result()
	if errors.Is(err, redis.Nil) {
		return removed, broker.ID{}, nil
	}
	if err != nil {
		return nil, broker.ID{}, w.reason(fmt.Errorf("loading the removed values: %w", err))
	}
	ms, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, broker.ID{}, errMeta
	}
	return removed, broker.ID{Ms: ms, N: math.MaxUint64}, nil
}
