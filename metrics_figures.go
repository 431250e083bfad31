package evstream

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/histogram"
)

// figures are the metrics of how sessions are served, of what goes in and out, and of how
// long it takes.
type figures struct {
	sessions, limit            *prometheus.Desc
	written, stored            *prometheus.Desc
	lag                        *prometheus.Desc
	publishes, conflicts       *prometheus.Desc
	appends                    *prometheus.Desc
	logLag, logQueued, logFull *prometheus.Desc
}

func newFigures() figures {
	return figures{
		sessions:  description("sessions", "Streams that are being served, by the version of HTTP and by who writes them.", "protocol", "delivery"),
		limit:     description("max_connections", "Streams that there may be at a time; +Inf if there is no limit."),
		written:   description("stream_bytes_total", "Bytes that were written to streams, without those of HTTP."),
		stored:    description("published_bytes_total", "Bytes of the data of events and values that were published at this node and stored."),
		lag:       description("delivery_lag_seconds", "Time from the publishing of an event until it was written to a stream, of the newest event of each write."),
		publishes: description("publishes_total", "Events, values and other operations that were published at this node, by what became of them.", "result"),
		conflicts: description("state_conflicts_total", "Changes of values that were computed again, because another one came before them."),
		appends:   description("log_append_duration_seconds", "Time that the log took to store what was published."),
		logLag:    description("log_lag_seconds", "How much older the newest entry is that this node has applied than the newest one of the log."),
		logQueued: description("log_queued", "Operations that wait to be stored."),
		logFull:   description("log_full", "1 while there is no room for what is published, else 0."),
	}
}

func (f *figures) describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		f.sessions, f.limit, f.written, f.stored, f.lag, f.publishes, f.conflicts, f.appends, f.logLag, f.logQueued, f.logFull,
	} {
		to <- d
	}
}

// servings has a zero for each way in which sessions are mostly served.
func servings() map[hub.Serving]int {
	return map[hub.Serving]int{{Protocol: 1}: 0, {Protocol: 1, Detached: true}: 0, {Protocol: 2}: 0, {Protocol: 3}: 0}
}

// protocols are the values of the label "protocol". Others are "other".
var protocols = [...]string{1: "http/1", 2: "http/2", 3: "http/3"}

// labelsOf are the values of the labels "protocol" and "delivery".
func labelsOf(s hub.Serving) (protocol, delivery string) {
	protocol, delivery = "other", "attached"
	if int(s.Protocol) < len(protocols) && protocols[s.Protocol] != "" {
		protocol = protocols[s.Protocol]
	}
	if s.Detached {
		delivery = "detached"
	}
	return protocol, delivery
}

// addFigures adds the figures of another hub of the same name.
func addFigures(s, h *hub.Stats) {
	for how, n := range h.Serving {
		s.Serving[how] += n
	}
	s.Limit = max(s.Limit, h.Limit)
	s.Written.Bytes += h.Written.Bytes
	s.Written.Lag.Add(h.Written.Lag)
	s.Publishes.Bytes += h.Publishes.Bytes
	s.Publishes.Appends.Add(h.Publishes.Appends)
	for result, n := range h.Publishes.Results {
		s.Publishes.Results[result] += n
	}
	s.Broker.StateRetried += h.Broker.StateRetried
}

// collectFigures collects the figures of a broker.
func (f *figures) collectFigures(to chan<- prometheus.Metric, name string, s *hub.Stats) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, value, append([]string{name}, labels...)...)
	}
	durations := func(d *prometheus.Desc, c *histogram.Counts) {
		count, atMost := c.Cumulative()
		to <- prometheus.MustNewConstHistogram(d, count, c.Sum.Seconds(), atMost, name)
	}
	byLabels := make(map[[2]string]int)
	for how, n := range s.Serving {
		protocol, delivery := labelsOf(how)
		byLabels[[2]string{protocol, delivery}] += n
	}
	for labels, n := range byLabels {
		send(f.sessions, prometheus.GaugeValue, float64(n), labels[0], labels[1])
	}
	limit := float64(s.Limit)
	if s.Limit == broker.Unlimited {
		limit = math.Inf(1)
	}
	send(f.limit, prometheus.GaugeValue, limit)
	send(f.written, prometheus.CounterValue, float64(s.Written.Bytes))
	send(f.stored, prometheus.CounterValue, float64(s.Publishes.Bytes))
	send(f.conflicts, prometheus.CounterValue, float64(s.Broker.StateRetried))
	for result, n := range s.Publishes.Results {
		send(f.publishes, prometheus.CounterValue, float64(n), result)
	}
	durations(f.lag, &s.Written.Lag)
	durations(f.appends, &s.Publishes.Appends)
}
