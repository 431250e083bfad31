package hub

import (
	"maps"
	"slices"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/stream"
)

// Stats is what a hub has counted since it was opened. Its maps are the caller's;
// what was never counted is not in them.
type Stats struct {
	Broker    broker.Stats
	Publishes broker.PublishStats
	Written   stream.Stats // to streams

	Streams int             // streams in the hub
	Serving map[Serving]int // streams that are being served, by how
	Limit   int             // streams that there may be; broker.Unlimited
	Up      bool            // whether the log is in reach, and has been read
	Nodes   int             // nodes that share the log; 0 if that is not known

	Presence presence.Stats
	Runs     runs.Counts

	Untold uint64 // channels and members that the observer was not told of: too many at a time

	Disconnects     map[stream.Reason]uint64 // streams that ended, by reason
	Refusals        map[string]uint64        // refused subscribers, by RefusalReasons
	PublishRefusals map[string]uint64        // refused publishing, by PublishRefusalReasons
}

// RefusalReasons returns the reasons under which refused subscribers are counted.
func RefusalReasons() []string {
	return []string{
		"max_connections", "max_connections_per_ip", "max_connections_per_user", "connect_rate", "refused_rate", "read_rate", "max_session_patterns",
		"max_subscribers", "max_patterns", "max_channels", "max_session_channels", "share", "shutdown", "reload", "identity", "log", "other",
	}
}

// PublishRefusalReasons returns the reasons under which refused publishing is
// counted: rates, and the rules of channels.
func PublishRefusalReasons() []string {
	return []string{"publish_rate", "publish_bytes", "event_types", "schema"}
}

// refusal is the reason under which err is counted.
func refusal(err error) string {
	if reason := problem.ReasonOf(err); slices.Contains(RefusalReasons(), reason) {
		return reason
	}
	return "other"
}

// Stats returns what the hub has counted.
func (h *Hub) Stats() Stats {
	s := Stats{
		Broker: h.broker.Stats(), Publishes: h.broker.PublishStats(), Written: h.server.Stats(), Nodes: h.nodes(), Presence: h.presence.Stats(), Runs: h.runs.Counts(),
		Untold: h.activity.untold() + h.members.untold(),
	}
	_, stale := h.broker.Stale()
	s.Up = h.broker.Loaded() == nil && !stale
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Streams, s.Serving, s.Limit = len(h.sessions), maps.Clone(h.serving), h.config.Broker.MaxSubscriptions
	s.Disconnects, s.Refusals, s.PublishRefusals = maps.Clone(h.disconnects), maps.Clone(h.refusals), maps.Clone(h.publishRefusals)
	return s
}

// nodes is the number of nodes that share the hub's log; 0 if that is not known.
func (h *Hub) nodes() int {
	if h.broker.Node() == "" {
		return 1
	}
	if members, known := h.broker.Members(); known {
		return len(members)
	}
	return 0
}

// Refused counts a subscriber that was turned away: under the reason that err
// declares, or under "other". MayConnect, Add and AddPoll do not count: whoever
// turns the subscriber away calls Refused, once.
func (h *Hub) Refused(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusals[refusal(err)]++
}

// refusedPublish counts publishing that was refused.
func (h *Hub) refusedPublish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publishRefusals[problem.ReasonOf(err)]++
}
