package takeover

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// shared is a log of several nodes, where another has taken over the runs of this one.
type shared struct {
	groups
	over atomic.Bool
}

func (*shared) Node() string                                 { return "n1" }
func (*shared) Members() ([]string, bool)                    { return nil, false }
func (*shared) Report(context.Context, map[string]int) error { return nil }
func (*shared) Readers(_ context.Context, names []string) ([]int, error) {
	return make([]int, len(names)), nil
}

func (l *shared) Append(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if ops[0].Kind == broker.KindState && l.over.Load() {
		return []broker.Result{{Err: broker.ErrStateMismatch}}, nil
	}
	return l.groups.Append(ctx, ops)
}

// A node that was suspended, and was taken for dead meanwhile, publishes nothing when it
// wakes: the channel may have another run. It has heard nothing yet.
func TestANodeThatWakesPublishesNothingOfARunThatIsAnothers(t *testing.T) {
	for name, suspended := range map[string]time.Duration{"suspended": 11 * time.Second, "awake": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &shared{groups: groups{Log: broker.NewMemory()}}
				g := recordingOn(t, log)
				published := make(chan struct{})
				go func() {
					defer close(published)
					g.publish()
				}()
				write := func() {
					if _, err := g.feed.Write(manyEvents(1)); err != nil && !errors.Is(err, errOver) {
						t.Error(err)
					}
					synctest.Wait()
				}
				write()
				log.over.Store(true)
				time.Sleep(suspended)
				write()
				g.feed.close(io.EOF)
				<-published
				why := g.why()
				if name == "awake" {
					if len(log.events) != 2 || why != nil {
						t.Errorf("groups of %v, cut off: %+v", log.events, why)
					}
				} else if len(log.events) != 1 || why == nil || !errors.Is(why.err, runs.ErrLost) {
					t.Errorf("groups of %v, cut off: %+v", log.events, why)
				}
			})
		})
	}
}
