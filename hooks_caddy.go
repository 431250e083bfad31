package evstream

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/hooks"
)

const (
	// exitFlush bounds how long an exit waits for hooks, if there is no grace_period
	// that is shorter.
	exitFlush = 5 * time.Second
	// removedFlush bounds how long a reload that removes a broker waits for its hooks.
	removedFlush = 2 * time.Second
)

// flushHooks sends what is queued for hooks, when all streams have ended.
func flushHooks(grace time.Duration) {
	within := exitFlush
	if grace > 0 {
		within = min(within, grace)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var all sync.WaitGroup
	for _, h := range hubs.all() {
		all.Go(func() { h.hooks.Flush(ctx) })
	}
	all.Wait()
}

// caddyEvents are the events of Caddy that a configuration emits.
type caddyEvents struct {
	ctx caddy.Context
	app *caddyevents.App
}

// emitted are the events that something in this configuration is subscribed to.
func (s *brokerSettings) emitted() (names []string) {
	for _, name := range hooks.Events() {
		if s.events != nil && s.events.app != nil && s.events.app.ShouldEmit(hooks.TypePrefix+name) {
			names = append(names, name)
		}
	}
	return names
}

// emit emits an event of Caddy, with the data that hooks get.
func (s *brokerSettings) emit(e *hooks.Event) {
	var payload struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(e.Payload(), &payload); err != nil {
		logger.Error("emitting an event", slog.Any("error", err))
		return
	}
	payload.Data["id"] = e.ID
	s.events.app.Emit(s.events.ctx, hooks.TypePrefix+e.Name, payload.Data)
}

// collectHooks collects the numbers of hooks.
func (c collector) collectHooks(to chan<- prometheus.Metric) {
	byName := make(map[string]*hooks.Stats)
	for _, h := range hubs.all() {
		sum := byName[h.Name()]
		if sum == nil {
			sum = &hooks.Stats{Dropped: make(map[string]uint64)}
			byName[h.Name()] = sum
		}
		s := h.hooks.Stats()
		sum.Queued += s.Queued
		sum.Sent += s.Sent
		for _, reason := range hooks.DropReasons() {
			sum.Dropped[reason] += s.Dropped[reason]
		}
	}
	for name, s := range byName {
		to <- prometheus.MustNewConstMetric(c.hooksQueued, prometheus.GaugeValue, float64(s.Queued), name)
		to <- prometheus.MustNewConstMetric(c.hooksSent, prometheus.CounterValue, float64(s.Sent), name)
		for reason, n := range s.Dropped {
			to <- prometheus.MustNewConstMetric(c.hooksDropped, prometheus.CounterValue, float64(n), name, reason)
		}
	}
}
