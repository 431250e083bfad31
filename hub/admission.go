package hub

import (
	"iter"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// Errors of Add and AddPoll.
var (
	ErrTooManyFromAddress = errkind.New("too-many-connections", "max_connections_per_ip", "too many streams from this address")
	ErrTooManyOfUser      = errkind.New("too-many-user-connections", "max_connections_per_user", "too many streams of this user")
	ErrExiting            = errkind.New("unavailable", "shutdown", "the server is shutting down")
)

// Add takes in a stream that is about to be served; Remove must be called when it
// has ended. The stream that the same ticket has opened before ends. On error the
// stream is not taken in, and is the caller's to close: the error is ErrExiting,
// ErrTooManyFromAddress, ErrTooManyOfUser, access.ErrRevoked, or that of a ticket
// which is not good, or over a bound. Only a stream that is taken in uses its ticket.
func (h *Hub) Add(s *Session, standing Standing) error {
	address, counted := countedAddress(s.Address)
	who, now := standing.Caller, time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.exiting:
		return ErrExiting
	case counted && h.addresses[address] >= h.config.MaxPerAddress:
		return ErrTooManyFromAddress
	case h.crowded(who.User):
		return ErrTooManyOfUser
	case h.IsRevoked(who, now): // since it was identified
		return access.ErrRevoked
	}
	if who.Ticket != nil {
		if err := h.useTicket(who.Ticket, s.Address, now); err != nil {
			return err
		}
	}
	s.standing, s.since = standing, now.UnixNano()
	h.sessions[s.Stream.ID()] = s
	if counted {
		h.addresses[address]++
	}
	s.counted = who.User
	h.countUser(s.counted, 1)
	h.takeOver(s)
	h.tellAllReaders(s, false)
	h.joinAllPresence(s)
	return nil
}

// Remove takes out a stream that has ended, and counts why. It does nothing for a
// stream that is not in.
func (h *Hub) Remove(s *Session) { h.remove(s, true) }

// Withdraw takes out a stream that was never served, and is to be counted as refused
// and not as disconnected, though it may have ended meanwhile.
func (h *Hub) Withdraw(s *Session) { h.remove(s, false) }

func (h *Hub) remove(s *Session, served bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.Stream.ID()] != s {
		return
	}
	if reason := s.Stream.Reason(); served && reason != "" {
		h.disconnects[reason]++
		h.disconnected(s, reason) // before an exit goes on, which waits for the last one
	}
	delete(h.sessions, s.Stream.ID())
	h.uncountServing(s)
	h.tellAllReaders(s, true)
	h.leaveAllPresence(s, served)
	if u := s.uncommon; u != nil && h.ticketed[u.ticket] == s {
		delete(h.ticketed, u.ticket)
	}
	if h.exiting && len(h.sessions) == 0 {
		close(h.empty)
	}
	if address, counted := countedAddress(s.Address); counted {
		h.uncountAddress(address)
	}
	h.countUser(s.counted, -1)
}

// AddPoll counts a poll among the streams of its address and its user, until
// RemovePoll is called with the same arguments. On error, which is ErrExiting,
// ErrTooManyFromAddress or ErrTooManyOfUser, it is not counted, and RemovePoll must
// not be called.
func (h *Hub) AddPoll(address, user string) error {
	a, counted := countedAddress(address)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.Draining():
		return ErrExiting
	case counted && h.addresses[a] >= h.config.MaxPerAddress:
		return ErrTooManyFromAddress
	case h.crowded(user):
		return ErrTooManyOfUser
	case counted:
		h.addresses[a]++
	}
	h.countUser(user, 1)
	return nil
}

// RemovePoll ends what AddPoll began.
func (h *Hub) RemovePoll(address, user string) {
	a, counted := countedAddress(address)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.countUser(user, -1)
	if counted {
		h.uncountAddress(a)
	}
}

// uncountAddress takes one off the streams of an address. Hub.mu is held.
func (h *Hub) uncountAddress(a netip.Addr) {
	if h.addresses[a]--; h.addresses[a] == 0 {
		delete(h.addresses, a)
	}
}

// crowded reports whether a user has as many streams as one may have. The user of
// anonymous callers is "", and has no limit. Hub.mu is held.
func (h *Hub) crowded(user string) bool {
	return user != "" && h.users[user] >= h.config.MaxPerUser
}

// countUser adds n to the number of a user's streams. Hub.mu is held.
func (h *Hub) countUser(user string, n int) {
	if user == "" {
		return
	}
	if h.users[user] += n; h.users[user] == 0 {
		delete(h.users, user)
	}
}

// countedAddress parses a client's address, and reports whether its streams are
// counted. Those from this host are not, and neither are those without an IP
// address, which come over a Unix socket. An IPv6 network of 64 bits counts as one
// address: whoever has one host in it has all the others.
func countedAddress(s string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, false
	}
	address = address.Unmap().WithZone("")
	loopback := address.IsLoopback()
	if address.Is6() {
		address = netip.PrefixFrom(address, 64).Masked().Addr()
	}
	return address, !loopback
}

// ClientAddress is the address under which a client is counted. client is what the
// server takes for it, connection is that of the connection, and forwarded has the
// values of the headers in which proxies name clients, such as X-Forwarded-For.
//
// That is client, unless it is a loopback address, whose streams are not counted, and
// the connection or a proxy says that the client is elsewhere: anybody can send a
// header that begins with 127.0.0.1. Then it is the last other address that was
// forwarded, which the nearest proxy has added, or else that of the connection.
func ClientAddress(client, connection string, forwarded iter.Seq[string]) string {
	if !isLoopback(client) {
		return client
	}
	elsewhere := connection
	for value := range forwarded {
		for part := range strings.SplitSeq(value, ",") {
			address, _, _ := strings.Cut(strings.TrimSpace(part), "%")
			if host, _, err := net.SplitHostPort(address); err == nil {
				address = host
			}
			if _, err := netip.ParseAddr(address); err == nil && !isLoopback(address) {
				elsewhere = address
			}
		}
	}
	return elsewhere
}

func isLoopback(s string) bool {
	address, err := netip.ParseAddr(s)
	return err == nil && address.Unmap().IsLoopback()
}
