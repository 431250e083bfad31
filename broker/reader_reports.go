package broker

import (
	"context"
	"log/slog"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// reportEvery is how often a node tells the cluster how many readers its channels
// have.
const reportEvery = 2 * time.Second

// readerReports are the channels whose number of readers the cluster is to be
// told. A channel is in it until Cluster.Report has returned nil for it.
//
// Broker.mu guards it.
type readerReports struct {
	changed map[string]struct{}
	// known are the channels that the cluster may believe to have readers. Of
	// others it need not be told that they have none.
	known map[string]struct{}
}

func newReaderReports() readerReports {
	return readerReports{changed: map[string]struct{}{}, known: map[string]struct{}{}}
}

// countReaders notes that the number of a feed's readers has changed.
// Broker.mu is held.
func (b *Broker) countReaders(f *feed) {
	b.observeReaders(f)
	if b.cluster != nil && f.pattern == nil && f.of == nil && !channel.IsBeneath(f.name) {
		b.reports.changed[f.name] = struct{}{}
	}
}

// reportReaders runs until ctx ends.
func (b *Broker) reportReaders(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var outage outage
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b.Loaded() != nil {
			continue
		}
		readers := b.changedReaders()
		if len(readers) == 0 {
			continue
		}
		err := b.cluster.Report(ctx, readers)
		b.reported(readers, err)
		if ctx.Err() != nil {
			return
		}
		logger := b.config.Load().Logger
		if outage.begins(err) {
			logger.Warn("reporting to other nodes how many readers there are fails: trying again until it succeeds", slog.Any("error", err))
		}
		if after, ok := outage.ends(err); ok {
			logger.Info("reporting to other nodes how many readers there are succeeds again", slog.Duration("after", after))
		}
	}
}

// changedReaders are the numbers that the cluster is to be told.
func (b *Broker) changedReaders() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.reports
	readers := make(map[string]int, len(r.changed))
	for name := range r.changed {
		n := 0
		if f := b.feeds[name]; f != nil {
			n = len(f.readers)
		}
		if _, known := r.known[name]; n > 0 || known {
			readers[name] = n
		}
	}
	clear(r.changed)
	return readers
}

// reported notes that the cluster was told of readers, or that it may have been.
func (b *Broker) reported(readers map[string]int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.reports
	for name, n := range readers {
		if n > 0 {
			r.known[name] = struct{}{}
		} else if err == nil {
			delete(r.known, name)
		}
		if err != nil {
			r.changed[name] = struct{}{}
		}
	}
}
