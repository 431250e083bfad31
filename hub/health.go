package hub

import "github.com/evstream/caddy-evstream/broker"

// Health says what a hub cannot do at the moment.
type Health struct {
	broker.Health
	// Draining says that the hub takes no more subscribers, because the process exits.
	Draining bool
}

// Health reports how the hub and its log are. It asks nobody, and may be called often.
func (h *Hub) Health() Health {
	return Health{Health: h.broker.Health(), Draining: h.Draining()}
}
