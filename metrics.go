package evstream

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/stream"
)

// metrics is the collector of the process. It collects the numbers of the open
// hubs, which outlive reloads. No label has more values than the
// code names, but for that of the broker's name.
var metrics = collector{
	connections: description("connections", "Streams that are being served."),
	channels:    description("channels", "Channels in memory."),
	bytes:       description("history_bytes", "Memory that histories take, in bytes."),
	published:   description("events_published_total", "Events that were published."),
	delivered:   description("events_delivered_total", "Events that were written to streams."),
	gaps:        description("gaps_total", "Gaps that were announced to subscribers."),
	states:      description("states", "Channels that have a value."),
	stateBytes:  description("state_bytes", "Size of all values, in bytes."),
	writes:      description("state_writes_total", "Changes of values."),
	refused:     description("state_refused_total", "Writes of values that were refused, for a condition that did not hold or a limit."),
	disconnects: description("disconnects_total", "Streams that ended.", "reason"),
	refusals:    description("subscribe_refused_total", "Subscribers that were turned away.", "reason"),

	recording: description("recording", "Answers of applications that this node records."),
	kept:      description("recordings_kept", "Recorded answers of all nodes that have ended and are kept."),
	recorded:  description("recorded_total", "Answers that this node has recorded, by how they have ended.", "state"),

	members: description("presence_members", "Users and anonymous streams of this node in channels with presence, each once a channel."),

	publishRefusals: description("publish_refused_total", "Publishing that was refused, by a rate or a channel's settings.", "reason"),

	up:      description("log_up", "1 while the log can be reached and is read, else 0."),
	nodes:   description("nodes", "Nodes that share the log, with this one; 0 while that is not known."),
	skipped: description("log_entries_skipped_total", "Entries of the log that this version does not know."),

	logSize:      description("log_size_bytes", "Size of the log on the disk of this machine, or in Redis when this node trimmed it last, in bytes."),
	logFree:      description("log_free_bytes", "Bytes of that which hold nothing."),
	logWritten:   description("log_written_bytes_total", "Bytes that were written to the disk for publishes and values."),
	logCommits:   description("log_commits_total", "Writes to the disk, each of all publishes that waited."),
	hooksQueued:  description("hooks_queued", "Events that wait to be sent to hooks."),
	hooksSent:    description("hooks_sent_total", "Events that hooks have taken."),
	hooksDropped: description("hooks_dropped_total", "Events that hooks did not get.", "reason"),
	hooksUntold:  description("hooks_untold_total", "Channels and members that hooks were not told of, because there were too many at a time."),

	figures: newFigures(),
}

type collector struct {
	connections, channels, bytes, published, delivered, gaps, disconnects, refusals *prometheus.Desc
	states, stateBytes, writes, refused                                             *prometheus.Desc

	publishRefusals *prometheus.Desc
	members         *prometheus.Desc

	recording, kept, recorded *prometheus.Desc

	up, nodes, skipped                       *prometheus.Desc
	logSize, logFree, logWritten, logCommits *prometheus.Desc
	hooksQueued, hooksSent, hooksDropped     *prometheus.Desc
	hooksUntold                              *prometheus.Desc

	figures
}

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("evstream", "", name), help, append([]string{"broker"}, labels...), nil)
}

// registerMetrics adds the collector to the registry of a configuration.
func registerMetrics(ctx caddy.Context) error {
	err := ctx.GetMetricsRegistry().Register(metrics)
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !ok {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.connections, c.channels, c.bytes, c.published, c.delivered, c.gaps, c.disconnects, c.refusals,
		c.states, c.stateBytes, c.writes, c.refused,
		c.recording, c.kept, c.recorded,
		c.publishRefusals, c.members, c.up, c.nodes, c.skipped,
		c.logSize, c.logFree, c.logWritten, c.logCommits,
		c.hooksQueued, c.hooksSent, c.hooksDropped, c.hooksUntold,
	} {
		to <- d
	}
	c.describe(to)
}

// Collect implements prometheus.Collector. While a reload replaces a broker's log
// there are two hubs of that name, whose numbers are added.
func (c collector) Collect(to chan<- prometheus.Metric) {
	byName := make(map[string]*hub.Stats)
	logs := make(map[string]*logStats)
	c.collectHooks(to)
	for _, h := range hubs.all() {
		addLog(logs, h)
		s, ok := byName[h.Name()]
		if !ok {
			s = newStats()
			byName[h.Name()] = s
		}
		addStats(s, h.Stats())
	}
	c.collectLogs(to, logs)
	for name, f := range byName {
		gauge := func(d *prometheus.Desc, value int) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), name)
		}
		counter := func(d *prometheus.Desc, value uint64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), append([]string{name}, labels...)...)
		}
		up := 0
		if f.Up {
			up = 1
		}
		gauge(c.connections, f.Streams)
		gauge(c.channels, f.Broker.Channels)
		gauge(c.bytes, f.Broker.Bytes)
		gauge(c.states, f.Broker.States)
		gauge(c.stateBytes, f.Broker.StateBytes)
		gauge(c.members, f.Presence.Members+f.Presence.Unnamed)
		gauge(c.recording, f.Runs.Going)
		gauge(c.kept, f.Runs.Kept)
		for state, n := range f.Runs.Ended {
			counter(c.recorded, n, string(state))
		}
		gauge(c.up, up)
		gauge(c.nodes, f.Nodes)
		counter(c.skipped, f.Broker.Skipped)
		counter(c.hooksUntold, f.Untold)
		counter(c.writes, f.Broker.StateWrites)
		counter(c.refused, f.Broker.StateRefused)
		counter(c.published, f.Broker.Published)
		counter(c.delivered, f.Broker.Delivered)
		counter(c.gaps, f.Broker.Gaps)
		c.collectFigures(to, name, f)
		for reason, n := range f.Disconnects {
			counter(c.disconnects, n, string(reason))
		}
		for reason, n := range f.Refusals {
			counter(c.refusals, n, reason)
		}
		for reason, n := range f.PublishRefusals {
			counter(c.publishRefusals, n, reason)
		}
	}
}

// newStats has a zero for each reason, so that its first occurrence is an
// increase.
func newStats() *hub.Stats {
	s := &hub.Stats{
		Up:              true,
		Disconnects:     make(map[stream.Reason]uint64),
		Refusals:        make(map[string]uint64),
		PublishRefusals: make(map[string]uint64),
		Serving:         servings(),
		Publishes:       broker.PublishStats{Results: make(map[string]uint64)},
		Runs:            runs.Counts{Ended: map[runs.State]uint64{runs.Done: 0, runs.Stopped: 0, runs.Broken: 0}},
	}
	for _, reason := range []stream.Reason{
		stream.ReasonClient, stream.ReasonSlow, stream.ReasonEnded, stream.ReasonShutdown, stream.ReasonReload,
		stream.ReasonRefused, stream.ReasonAge, stream.ReasonExpired, stream.ReasonRevoked, stream.ReasonReplaced, stream.ReasonClosed, stream.ReasonGap, stream.ReasonError,
	} {
		s.Disconnects[reason] = 0
	}
	for _, reason := range hub.RefusalReasons() {
		s.Refusals[reason] = 0
	}
	for _, reason := range hub.PublishRefusalReasons() {
		s.PublishRefusals[reason] = 0
	}
	return s
}

// addStats adds the numbers of another hub of the same name.
func addStats(s *hub.Stats, h hub.Stats) {
	addFigures(s, &h)
	s.Broker.Channels += h.Broker.Channels
	s.Broker.Bytes += h.Broker.Bytes
	s.Broker.Published += h.Broker.Published
	s.Broker.Delivered += h.Broker.Delivered
	s.Broker.Gaps += h.Broker.Gaps
	s.Broker.States += h.Broker.States
	s.Broker.StateBytes += h.Broker.StateBytes
	s.Broker.StateWrites += h.Broker.StateWrites
	s.Broker.StateRefused += h.Broker.StateRefused
	s.Broker.Skipped += h.Broker.Skipped
	s.Up = s.Up && h.Up
	s.Nodes = max(s.Nodes, h.Nodes)
	s.Streams += h.Streams
	s.Untold += h.Untold
	s.Presence.Members += h.Presence.Members
	s.Presence.Unnamed += h.Presence.Unnamed
	s.Runs.Going += h.Runs.Going
	s.Runs.Kept = max(s.Runs.Kept, h.Runs.Kept)
	for state, n := range h.Runs.Ended {
		s.Runs.Ended[state] += n
	}
	for reason, n := range h.Disconnects {
		s.Disconnects[reason] += n
	}
	for reason, n := range h.Refusals {
		s.Refusals[reason] += n
	}
	for reason, n := range h.PublishRefusals {
		s.PublishRefusals[reason] += n
	}
}

// Interface guard
var _ prometheus.Collector = collector{}
