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

// removed reads which channels lost their value, as far as is known, and when
// the newest of the others did. Of the id of a removal only the time is known:
// none of that millisecond is above what it returns.
func (fo *follow) removed(ctx context.Context, w *link) (map[string]broker.ID, broker.ID, error) {
	keys := &fo.log.keys
	gone, err := w.conn.ZRangeWithScores(ctx, keys.gone, 0, -1).Result()
	if err != nil {
		return nil, broker.ID{}, w.reason(fmt.Errorf("loading which values were removed: %w", err))
	}
	removed := make(map[string]broker.ID, len(gone))
	for _, z := range gone {
		if channel, ok := z.Member.(string); ok && z.Score > 0 {
			removed[channel] = broker.ID{Ms: uint64(z.Score), N: math.MaxUint64}
		}
	}
	// After the others: what leaves them meanwhile is in there twice.
	text, err := w.conn.HGet(ctx, keys.meta, "forgot").Result()
	if errors.Is(err, redis.Nil) {
		return removed, broker.ID{}, nil
	}
	if err != nil {
		return nil, broker.ID{}, w.reason(fmt.Errorf("loading which values were removed: %w", err))
	}
	ms, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, broker.ID{}, errMeta
	}
	return removed, broker.ID{Ms: ms, N: math.MaxUint64}, nil
}
