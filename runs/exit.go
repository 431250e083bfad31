package runs

import (
	"context"
	"sync"
	"time"
)

// releaseTime bounds how long a release waits for the log.
const releaseTime = 10 * time.Second

// releases are those that nobody waits for. They end with the table's Exit.
type releases struct {
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // guards work.Add against work.Wait
	work   *sync.WaitGroup
}

func newReleases() releases {
	ctx, cancel := context.WithCancel(context.Background())
	return releases{ctx: ctx, cancel: cancel, work: new(sync.WaitGroup)}
}

// end gives up those that are not over, and waits until they have.
func (r *releases) end() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.work.Wait()
}

// ReleaseSoon is Release on a goroutine of the table, so that nobody waits for the log. If
// it fails within some seconds, failed is called: the table finds the run later.
func (o *Owned) ReleaseSoon(failed func(error)) {
	all := &o.table.releases
	release := func() {
		ctx, cancel := context.WithTimeout(all.ctx, releaseTime)
		defer cancel()
		if err := o.Release(ctx); err != nil {
			failed(err)
		}
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.ctx.Err() != nil { // after Exit: it fails at once
		release()
		return
	}
	all.work.Go(release)
}

// Exit has all runs of this node end, for a reason, and lets none begin. It waits for them,
// or until ctx ends. Releases that are not over then are given up.
func (t *Table) Exit(ctx context.Context, reason string) {
	t.mu.Lock()
	t.ending = reason
	own := make([]*Owned, 0, len(t.own))
	for _, o := range t.own {
		own = append(own, o)
	}
	t.mu.Unlock()
	for _, o := range own {
		o.stop(Broken, reason)
	}
	defer t.releases.end()
	for _, o := range own {
		select {
		case <-o.ended:
		case <-ctx.Done():
			return
		}
	}
}
