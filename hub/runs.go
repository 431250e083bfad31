package hub

import (
	"context"
	"errors"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/runs"
)

// Runs has the recorded answers of the hub's log.
func (h *Hub) Runs() *runs.Table { return h.runs }

func (h *Hub) openRuns() {
	h.runs = runs.New(h.broker, func() int { return h.Config().Broker.Share }, h.logger)
}

// exitRuns bounds how long an exit waits for the runs to be ended in the log.
const exitRuns = 5 * time.Second

// closeRuns ends the runs of this node.
func (h *Hub) closeRuns() {
	ctx, cancel := context.WithTimeout(context.Background(), exitRuns)
	defer cancel()
	h.runs.Exit(ctx, "the server is shutting down")
}

// StopRun stops a run, whichever node records it, and no other that its channel may have by
// then. When it returns nil the application's connection is cut, and the channel closed. The
// error is runs.ErrNoRun where the run is nil, or is being recorded no more, or
// problem.Uncertain where the node did not answer.
func (h *Hub) StopRun(ctx context.Context, r *runs.Run, reason string) error {
	if err := h.runs.Loaded(); err != nil {
		return err
	}
	if r == nil || r.State.Ended() {
		return runs.ErrNoRun
	}
	err := h.call(ctx, r.ID, verbStop, reason, &struct{}{})
	switch {
	case errors.Is(err, broker.ErrNoSession), err != nil && problem.Of(err).Kind == problem.NotFound:
		return runs.ErrNoRun // it has ended, or its node is gone, which will be found out
	case errors.Is(err, errNoReply), errors.Is(err, broker.ErrUncertain):
		return problem.Uncertain.Because("the node that records the answer does not say whether it has stopped it")
	}
	return err
}
