package hub

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter"
	"github.com/evstream/caddy-evstream/runs"
)

// claimed is a run of a hub, whose application has answered.
func claimed(t *testing.T, h *Hub, channel string) *runs.Owned {
	t.Helper()
	o, other, err := h.Runs().Claim(t.Context(), runs.Run{
		Channel: channel, Ask: "x", Longest: time.Minute, Keep: time.Minute,
	}, nil)
	if err != nil || o == nil {
		t.Fatal(other, err)
	}
	if err := o.Answered(t.Context(), 200, nil, []runs.Mark{{Type: "broken", Data: "{}"}}); err != nil {
		t.Fatal(err)
	}
	return o
}

// Two nodes share a log: one run a channel, stopped from the other node, and ended where
// its node dies.
func TestRunsOfSeveralNodes(t *testing.T) {
	t.Parallel() // it waits for the lease
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr())
	start := func(address string) *Hub {
		c := redisadapter.DefaultConfig()
		c.Addresses = []string{address}
		log, err := redisadapter.Open(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		h := hubOn(t, log, Config{Logger: slog.New(slog.DiscardHandler)})
		eventually(t, "the node to be loaded", func() bool { return h.Broker().Loaded() == nil })
		return h
	}
	lives, dies := start(server.Addr()), start(proxy.Addr())
	state := func(channel string) runs.State {
		if r := lives.Runs().Get(channel); r != nil {
			return r.State
		}
		return ""
	}
	stopped := claimed(t, dies, "stopped")
	if o, other, err := lives.Runs().Claim(t.Context(), runs.Run{Channel: "stopped"}, nil); o != nil || err != nil || other == nil || other.ID != stopped.Run().ID {
		t.Fatalf("another node claims it: %v, %+v, %v", o, other, err)
	}
	ended := make(chan error, 1)
	go func() {
		<-stopped.Done()
		_, reason := stopped.Why()
		ended <- stopped.End(t.Context(), runs.Stopped, reason, nil)
	}()
	eventually(t, "the run to be heard", func() bool { return state("stopped") == runs.Active })
	run := lives.Runs().Get("stopped")
	if err := lives.StopRun(t.Context(), run, "enough"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end to be heard", func() bool { return state("stopped") == runs.Stopped })
	// Who may stop it may not stop what has come in its place since.
	after := lives.Runs().Get("stopped")
	next, _, err := dies.Runs().Claim(t.Context(), runs.Run{Channel: "stopped", Ask: "y", Longest: time.Minute, Keep: time.Minute}, after)
	for until := time.Now().Add(patience); next == nil && err == nil && time.Now().Before(until); {
		was := dies.Runs().Get("stopped")
		next, _, err = dies.Runs().Claim(t.Context(), runs.Run{Channel: "stopped", Ask: "y", Longest: time.Minute, Keep: time.Minute}, was)
	}
	if next == nil || err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next run to be heard", func() bool { return state("stopped") == runs.Asking })
	for _, was := range []*runs.Run{nil, run, after} {
		if err := lives.StopRun(t.Context(), was, ""); !errors.Is(err, runs.ErrNoRun) {
			t.Errorf("it is stopped again: %v", err)
		}
	}
	select {
	case <-next.Done():
		t.Error("the run after it is stopped")
	default:
	}
	if err := next.Release(t.Context()); err != nil {
		t.Error(err)
	}

	lost := claimed(t, dies, "lost")
	eventually(t, "the run to be heard", func() bool { return state("lost") == runs.Active })
	proxy.Cut()
	eventually(t, "the run to be broken", func() bool { return state("lost") == runs.Broken })
	if info, _ := lives.Broker().Channel("lost"); info.Closed.IsZero() || info.Events != 1 {
		t.Errorf("its channel is %+v", info)
	}
	if err := lost.End(t.Context(), runs.Done, "", nil); err == nil {
		t.Error("the dead node ends it")
	}
}
