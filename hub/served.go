package hub

// Served sessions, by how they are served, for metrics. They are counted when they begin
// and end, because there may be too many to look at all.

// Serving says how sessions are served.
type Serving struct {
	// Protocol is the major version of HTTP; 0 if that is not known.
	Protocol uint8
	// Detached says that their connections are not the HTTP server's any more.
	Detached bool
}

// countServing counts a session that is served from now on. Hub.mu is held.
func (h *Hub) countServing(s *Session) {
	s.serving = Serving{Protocol: s.Protocol, Detached: s.Stream.Detached()}
	h.serving[s.serving]++
}

// uncountServing takes off a session that was counted, if it was. Hub.mu is held.
func (h *Hub) uncountServing(s *Session) {
	if s.served {
		h.serving[s.serving]--
	}
}
