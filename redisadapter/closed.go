package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// closedStep is how many closed channels are read at once, approximately.
const closedStep = 1000

// closed reads which channels are closed. Of those that are closed or opened meanwhile it
// returns what was or what is.
func (fo *follow) closed(ctx context.Context, w *link) ([]broker.Entry, error) {
	err := w.conn.HGet(ctx, fo.log.keys.meta, "closed").Err()
	if errors.Is(err, redis.Nil) {
		return nil, nil // what there is is left from a log that is gone
	}
	if err != nil {
		return nil, w.reason(fmt.Errorf("loading the closed channels: %w", err))
	}
	var entries []broker.Entry
	place := map[string]int{}
	for cursor := uint64(0); ; {
		page, next, err := w.conn.HScan(ctx, fo.log.keys.closed, cursor, "", closedStep).Result()
		if err != nil {
			return nil, w.reason(fmt.Errorf("loading the closed channels: %w", err))
		}
		for ; len(page) >= 2; page = page[2:] {
			e, ok := closedEntry(page[0], page[1])
			if !ok {
				return nil, fmt.Errorf("what closed the channel %q cannot be read", page[0])
			}
			if i, known := place[page[0]]; known {
				entries[i] = e
				continue
			}
			place[page[0]] = len(entries)
			entries = append(entries, e)
		}
		if cursor = next; cursor == 0 {
			return entries, nil
		}
	}
}

// closedEntry reads the row "id until" of a closed channel.
func closedEntry(channel, row string) (broker.Entry, bool) {
	id, until, _ := strings.Cut(row, " ")
	e := broker.Entry{Version: broker.EntryVersion, Kind: broker.KindClose, Channel: channel, Close: &broker.CloseEntry{}}
	ms, err := strconv.ParseUint(until, 10, 63)
	var ok bool
	if e.ID, ok = entry.ParseID(id); !ok || err != nil || ms > 0 && ms <= e.ID.Ms {
		return broker.Entry{}, false
	}
	if ms > 0 {
		e.Close.For = time.Duration(ms-e.ID.Ms) * time.Millisecond
	}
	return e, true
}
