package takeover

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/sse"
)

// eventCost is what an event needs to be kept, besides its text, in bytes.
const eventCost = 64

// Bounds of what is published at once: an application that never pauses must not have
// readers wait for its end.
const (
	maxGroup      = 256      // events
	maxGroupBytes = 64 << 10 // of events, as they are kept
)

// publish publishes the events of the feed: what has come meanwhile at once. After a
// failure nothing more is published, so that no event is missing between others.
func (g *recording) publish() {
	name := g.owned.Run().Channel
	var ops []broker.Op
	kept, group, failed := 0, 0, false
	asked := time.Now() // when this node has last asked the log anything about the run
	flush := func() {
		if len(ops) == 0 || failed {
			return
		}
		was := asked
		asked = time.Now()
		if err := g.still(asked.Sub(was)); err != nil {
			failed = true
			g.end(cutBecause(codeLog, "it could not be kept: %w", err))
			return
		}
		results, err := g.rec.hub.Broker().Publish(context.Background(), ops)
		g.rec.streams.Published(g.client, ops, results, err)
		for i := range results {
			if err == nil {
				err = results[i].Err
			}
		}
		if err != nil {
			failed = true
			g.end(cutBecause(codeLog, "it could not be kept: %w", err))
		}
		ops, group = nil, 0
	}
	g.feed.idle = flush
	for d := sse.NewDecoder(g.feed, g.rec.config.Largest); ; {
		e, err := d.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				g.end(cutBecause(codeApplication, "it is no list of events: %w", err))
			}
			flush()
			return
		}
		if !broker.UsableID(e.ID) {
			e.ID = ""
		}
		e.Retry = min(e.Retry, httpapi.TrustedRetry) // others read it, on connections with more channels
		size := len(e.Data) + len(e.Type) + len(e.ID) + eventCost
		if kept += size; kept > g.rec.config.Largest {
			g.end(cutBecause(codeLargest, "it needs more than %d bytes to be kept", g.rec.config.Largest))
			flush()
			return
		}
		ops = append(ops, broker.Op{Kind: broker.KindEvent, Channel: name, Event: e})
		if group += size; len(ops) == maxGroup || group >= maxGroupBytes {
			flush()
		}
		if failed {
			return
		}
	}
}

// renewAfter is after how long without a word to the log this node makes sure that it has
// the run still. It is below the time after which other nodes take one that is suspended for
// dead, end its runs, and may begin others in their place.
const renewAfter = 5 * time.Second

// still reports why nothing may be published any more: the run is another's by now. quiet is
// how long the log was not asked.
func (g *recording) still(quiet time.Duration) error {
	switch {
	case g.owned.Lost():
		return runs.ErrLost
	case quiet < renewAfter:
		return nil
	}
	return g.owned.Renew(context.Background())
}
