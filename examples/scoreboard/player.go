package scoreboard

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second

	// The endpoint may start after the player, and is away for a moment in a
	// reload: only so many failures in a row are logged.
	quietTries = 5

	// A player that is further behind than this, because the machine slept,
	// skips to the present.
	maxLag = 5 * time.Second
)

// A player plays its fixtures by the wall clock. It is used by one goroutine.
type player struct {
	fixtures []*fixture
	pace     time.Duration
	publish  *publisher
	logger   *slog.Logger

	// The round of each fixture that is being played, as it was written.
	rounds  []int64
	scripts [][]moment
}

func newPlayer(fixtures []*fixture, endpoint string, pace time.Duration, logger *slog.Logger) *player {
	return &player{
		fixtures: fixtures,
		pace:     pace,
		publish:  newPublisher(endpoint),
		logger:   logger,
		rounds:   make([]int64, len(fixtures)),
		scripts:  make([][]moment, len(fixtures)),
	}
}

// run plays until ctx ends. After a failure it begins again with the standings.
func (p *player) run(ctx context.Context) {
	defer p.publish.close()
	failures := 0
	up := func() {
		if failures >= quietTries {
			p.logger.Info("the matches are live again")
		}
		failures = 0
	}
	for {
		err := p.play(ctx, up)
		if ctx.Err() != nil {
			return
		}
		failures++
		if failures == quietTries {
			p.logger.Warn("publishing the matches failed; retrying until it works", "error", err)
		}
		if !sleep(ctx, min(firstBackoff<<min(failures-1, 10), lastBackoff)) {
			return
		}
	}
}

// play publishes the standings of all matches, and then what happens, until an
// event cannot be published or ctx ends. It calls up after each success.
func (p *player) play(ctx context.Context, up func()) error {
	tick := p.now()
	if err := p.publish.post(ctx, "", p.standings(tick)); err != nil {
		return err
	}
	up()
	for {
		if !sleep(ctx, time.Until(p.when(tick+1))) {
			return ctx.Err()
		}
		tick++
		if time.Since(p.when(tick)) > maxLag {
			return fmt.Errorf("the player is %s behind the clock", time.Since(p.when(tick)))
		}
		// The key makes sure that a tick is stored once, even if the player of
		// another node, or of the next configuration, publishes it, too.
		key := fmt.Sprintf("scoreboard-%s-%d", p.pace, tick)
		if err := p.publish.post(ctx, key, p.happenings(tick)); err != nil {
			return err
		}
		up()
	}
}

// now is the tick that the wall clock shows; when is its inverse.
func (p *player) now() int64 { return time.Now().UnixNano() / int64(p.pace) }

func (p *player) when(tick int64) time.Time { return time.Unix(0, tick*int64(p.pace)) }

// standings returns, for every fixture, the last moment at or before a tick, as a
// snapshot: all that a page needs to draw the match.
func (p *player) standings(tick int64) []event {
	events := make([]event, 0, len(p.fixtures))
	for i, f := range p.fixtures {
		script, at := p.script(i, tick)
		last := script[0]
		for _, m := range script {
			if m.at <= at {
				last = m
			}
		}
		kind := "snapshot"
		if last.kind == "announcement" {
			kind = last.kind
		}
		events = append(events, event{Channel: f.channel, Type: kind, Data: string(last.data)})
	}
	return events
}

// happenings returns the events of a tick.
func (p *player) happenings(tick int64) []event {
	var events []event
	for i, f := range p.fixtures {
		script, at := p.script(i, tick)
		for _, m := range script {
			if m.at == at {
				events = append(events, event{Channel: f.channel, Type: m.kind, Data: string(m.data)})
			}
		}
	}
	return events
}

// script returns the round of a fixture that a tick belongs to, and the tick's
// position in it.
func (p *player) script(i int, tick int64) ([]moment, int64) {
	round, at := p.fixtures[i].position(tick)
	if p.scripts[i] == nil || p.rounds[i] != round {
		p.rounds[i], p.scripts[i] = round, p.fixtures[i].script(round)
	}
	return p.scripts[i], at
}

// sleep waits for d, and reports whether it did: false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
