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

// StopRun stops the run of a channel, whichever node records it. When it returns nil the
// application's connection is cut, and the channel closed. The error is runs.ErrNoRun where
// nothing is being recorded, or problem.Uncertain where the node did not answer.
func (h *Hub) StopRun(ctx context.Context, channel, reason string) error {
	if err := h.runs.Loaded(); err != nil {
		return err
	}
	r, _ := h.runs.Get(channel)
	if r == nil || r.State.Ended() {
		return runs.ErrNoRun
	}
	err := h.call(ctx, r.ID, verbStop, reason, &struct{}{})
	switch {
	case errors.Is(err, broker.ErrNoSession):
		return runs.ErrNoRun // it is gone, or will be found to be
	case errors.Is(err, errNoReply), errors.Is(err, broker.ErrUncertain):
		return problem.Uncertain.Because("the node that records the answer does not say whether it has stopped it")
	}
	return err
}
