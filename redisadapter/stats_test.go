package redisadapter

import (
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

func TestTheFiguresOfALogInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	log.intervals = quickIntervals
	log.intervals.trim = 200 * time.Millisecond
	record(t, log).waitReady()
	appendAll(t, log, large(), large())
	awaitTrue(t, longEnough, "the size", func() bool { return log.Stats().Size > 32<<10 })
	awaitTrue(t, longEnough, "the log to be applied", func() bool { s := log.Stats(); return s.Lag == 0 && s.Queued == 0 })
	full(t, server)
	if s := log.Stats(); s.Queued != 0 {
		t.Errorf("%d operations wait", s.Queued)
	}
}

func TestTheLagIsThatOfTheNewestEntryAtTheLastBeat(t *testing.T) {
	at := func(ms uint64) entry.Point { return entry.Point{ID: broker.ID{Ms: ms}} }
	for _, tt := range []struct {
		newest, applied uint64
		want            time.Duration
	}{{0, 0, 0}, {1000, 1000, 0}, {1000, 2000, 0}, {4000, 1000, 3 * time.Second}} {
		var f figures
		if f.saw(at(tt.newest), at(tt.applied)); time.Duration(f.lag.Load()) != tt.want {
			t.Errorf("from %d to %d: %s", tt.applied, tt.newest, time.Duration(f.lag.Load()))
		}
	}
}
