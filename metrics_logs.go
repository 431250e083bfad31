package evstream

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/redisadapter"
)

// logStats are the figures of the logs of a broker's hubs, of which there are two while a
// reload replaces one.
type logStats struct {
	size, free, written, commits float64
	queued, lag                  float64
	full                         bool
}

// redisLog is a log in Redis.
type redisLog interface{ Stats() redisadapter.Stats }

// addLog adds the figures of a hub's log.
func addLog(logs map[string]*logStats, h *openHub) {
	s := logs[h.Name()]
	if s == nil {
		s = new(logStats)
		logs[h.Name()] = s
	}
	s.full = s.full || h.Health().Room != nil
	switch log := h.log.(type) {
	case diskLog:
		d := log.Stats()
		s.size += float64(d.Size)
		s.free += float64(d.MetaFree)
		s.written += float64(d.Written)
		s.commits += float64(d.Commits)
		s.queued += float64(d.Queued)
	case redisLog:
		r := log.Stats()
		s.size += float64(r.Size)
		s.queued += float64(r.Queued)
		s.lag = max(s.lag, r.Lag.Seconds())
	}
}

// collectLogs collects the figures of logs.
func (c *collector) collectLogs(to chan<- prometheus.Metric, logs map[string]*logStats) {
	for name, s := range logs {
		full := 0.0
		if s.full {
			full = 1
		}
		for d, value := range map[*prometheus.Desc]float64{c.logSize: s.size, c.logFree: s.free, c.logQueued: s.queued, c.logLag: s.lag, c.logFull: full} {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, name)
		}
		to <- prometheus.MustNewConstMetric(c.logWritten, prometheus.CounterValue, s.written, name)
		to <- prometheus.MustNewConstMetric(c.logCommits, prometheus.CounterValue, s.commits, name)
	}
}
