package evstream

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// metrics is the one collector of the process. It keeps no numbers of its own:
// those are the hubs', which live over reloads, and are read when asked for.
// Nothing but a broker's name and a reason is ever a label.
var metrics = collector{
	connections: description("connections", "Streams that are being served."),
	channels:    description("channels", "Channels in memory."),
	bytes:       description("history_bytes", "Memory that histories take."),
	published:   description("events_published_total", "Events that were published."),
	delivered:   description("events_delivered_total", "Events that were written to streams."),
	gaps:        description("gaps_total", "Gaps that were announced to subscribers."),
	states:      description("states", "Channels that have a value."),
	stateBytes:  description("state_bytes", "Size of all values."),
	writes:      description("state_writes_total", "Changes of values."),
	refused:     description("state_refused_total", "Writes of values that the log refused: for a condition that did not hold, or a bound."),
	disconnects: description("disconnects_total", "Streams that ended.", "reason"),
	refusals:    description("subscribe_refused_total", "Subscribers that were turned away.", "reason"),

	publishRefusals: description("publish_refused_total", "Publishing that a rate or a channel's rules refused.", "reason"),

	up:      description("log_up", "Whether the log is in reach, and what it has is read: 1, or else 0."),
	nodes:   description("nodes", "Nodes that share the log, this one too; 0 while that is not known."),
	skipped: description("log_entries_skipped_total", "Entries of the log that this version does not know."),
}

type collector struct {
	connections, channels, bytes, published, delivered, gaps, disconnects, refusals *prometheus.Desc
	states, stateBytes, writes, refused                                             *prometheus.Desc

	publishRefusals *prometheus.Desc

	up, nodes, skipped *prometheus.Desc
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
		c.publishRefusals, c.up, c.nodes, c.skipped,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector. While a reload exchanges a broker's
// log there are two hubs of its name; they are told as one.
func (c collector) Collect(to chan<- prometheus.Metric) {
	byName := make(map[string]*figures)
	for _, h := range hubs.all() {
		f, ok := byName[h.key.name]
		if !ok {
			f = newFigures()
			byName[h.key.name] = f
		}
		f.add(h)
	}
	for name, f := range byName {
		gauge := func(d *prometheus.Desc, value int) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), name)
		}
		counter := func(d *prometheus.Desc, value uint64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), append([]string{name}, labels...)...)
		}
		gauge(c.connections, f.streams)
		gauge(c.channels, f.stats.Channels)
		gauge(c.bytes, f.stats.Bytes)
		gauge(c.states, f.stats.States)
		gauge(c.stateBytes, f.stats.StateBytes)
		gauge(c.up, f.up)
		gauge(c.nodes, f.nodes)
		counter(c.skipped, f.stats.Skipped)
		counter(c.writes, f.stats.StateWrites)
		counter(c.refused, f.stats.StateRefused)
		counter(c.published, f.stats.Published)
		counter(c.delivered, f.stats.Delivered)
		counter(c.gaps, f.stats.Gaps)
		for reason, n := range f.disconnects {
			counter(c.disconnects, n, string(reason))
		}
		for reason, n := range f.refusals {
			counter(c.refusals, n, reason)
		}
		for reason, n := range f.publishRefusals {
			counter(c.publishRefusals, n, reason)
		}
	}
}

// figures is what the hubs of one name have counted.
type figures struct {
	streams     int
	stats       broker.Stats
	disconnects map[stream.Reason]uint64
	refusals    map[string]uint64

	publishRefusals map[string]uint64

	up, nodes int
}

// newFigures begins with a zero for each reason, so that a first one is seen as
// an increase.
func newFigures() *figures {
	f := &figures{disconnects: make(map[stream.Reason]uint64), refusals: make(map[string]uint64), up: 1}
	f.publishRefusals = make(map[string]uint64)
	for _, reason := range publishRefusals {
		f.publishRefusals[reason] = 0
	}
	for _, reason := range []stream.Reason{
		stream.ReasonClient, stream.ReasonSlow, stream.ReasonEnded, stream.ReasonShutdown, stream.ReasonReload,
		stream.ReasonRefused, stream.ReasonAge, stream.ReasonExpired, stream.ReasonRevoked, stream.ReasonReplaced, stream.ReasonClosed, stream.ReasonError,
	} {
		f.disconnects[reason] = 0
	}
	for _, r := range refusalReasons {
		f.refusals[r.reason] = 0
	}
	return f
}

func (f *figures) add(h *hub) {
	stats := h.broker.Stats()
	f.stats.Channels += stats.Channels
	f.stats.Bytes += stats.Bytes
	f.stats.Published += stats.Published
	f.stats.Delivered += stats.Delivered
	f.stats.Gaps += stats.Gaps
	f.stats.States += stats.States
	f.stats.StateBytes += stats.StateBytes
	f.stats.StateWrites += stats.StateWrites
	f.stats.StateRefused += stats.StateRefused
	f.stats.Skipped += stats.Skipped
	if h.broker.Loaded() != nil || h.stale() > 0 {
		f.up = 0
	}
	f.nodes = max(f.nodes, h.nodes())
	h.mu.Lock()
	defer h.mu.Unlock()
	f.streams += len(h.streams)
	for reason, n := range h.disconnects {
		f.disconnects[reason] += n
	}
	for reason, n := range h.refusals {
		f.refusals[reason] += n
	}
	for reason, n := range h.publishRefusals {
		f.publishRefusals[reason] += n
	}
}

// nodes is how many nodes share the hub's log, 0 if that is not known.
func (h *hub) nodes() int {
	if h.broker.Node() == "" {
		return 1
	}
	if members, known := h.broker.Members(); known {
		return len(members)
	}
	return 0
}

// refusalReasons are the values of the label "reason" for subscribers that were
// turned away.
var refusalReasons = []struct {
	err    error
	reason string
}{
	{broker.ErrTooManySubscriptions, "max_connections"},
	{errTooManyFromAddress, "max_connections_per_ip"},
	{errTooManyOfUser, "max_connections_per_user"},
	{errConnectRate, "connect_rate"},
	{broker.ErrTooManySubscriptionPatterns, "max_session_patterns"},
	{broker.ErrTooManySubscribers, "max_subscribers"},
	{broker.ErrTooManyPatterns, "max_patterns"},
	{broker.ErrTooManyChannels, "max_channels"},
	{broker.ErrTooManySubscriptionChannels, "max_session_channels"},
	{errExiting, "shutdown"},
	{errReplaced, "reload"},
	{errNoKeys, "identity"},
	{errApplication, "identity"},
	{broker.ErrLoading, "log"},
	{broker.ErrUnavailable, "log"},
	{nil, "other"},
}

// refusal names the reason of err.
func refusal(err error) string {
	for _, r := range refusalReasons {
		if r.err != nil && errors.Is(err, r.err) {
			return r.reason
		}
	}
	return "other"
}

// Interface guard
var _ prometheus.Collector = collector{}
