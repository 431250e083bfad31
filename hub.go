package evstream

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// pool holds the hubs by hubKey. Each configuration that declares a broker
// holds one reference, so a hub lives over reloads.
var pool = caddy.NewUsagePool()

// hubs are the hubs that live, for those who ask about all of them: metrics,
// and the exit. Ranging over the pool would wait for a log that is being opened.
var hubs = hubSet{members: make(map[*hub]struct{})}

type hubSet struct {
	mu      sync.Mutex
	members map[*hub]struct{}
}

func (s *hubSet) add(h *hub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[h] = struct{}{}
}

func (s *hubSet) remove(h *hub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, h)
}

func (s *hubSet) all() []*hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*hub, 0, len(s.members))
	for h := range s.members {
		list = append(list, h)
	}
	return list
}

// hubKey is a broker's name and what identifies its log. Nothing else: a
// changed limit must not make a second log.
type hubKey struct {
	name     string
	adapter  string // the module's id
	identity string
}

// hub is a broker and the streams that are served from it, whatever
// configuration they began under.
type hub struct {
	key    hubKey
	log    broker.Log // the broker's
	broker *broker.Broker
	server *stream.Server
	exit   chan struct{} // closed when the process begins to exit
	limits limits

	revocations revocations
	used        usedTickets
	others      others

	// mu guards what follows, and the endpoint of every stream in it. It is
	// held for no longer than it takes to read or change them.
	mu            sync.Mutex
	exiting       bool
	drain         time.Duration // the longest that a stream is given to end, when exiting
	maxPerAddress int
	empty         chan struct{} // closed when the last stream leaves a hub that is exiting
	streams       map[*live]struct{}
	sessions      map[string]*live    // streams by the names of their sessions
	ticketed      map[ticketKey]*live // the stream of each ticket
	addresses     map[netip.Addr]int
	disconnects   map[stream.Reason]uint64
	refusals      map[string]uint64

	maxPerUser      int
	users           map[string]int
	publishRefusals map[string]uint64
}

// Errors of hub.add.
var (
	errTooManyFromAddress = errors.New("too many streams from this address")
	errExiting            = errors.New("the server is shutting down")
	errReplaced           = errors.New("the configuration was replaced")
)

// openHub opens the log and starts the broker.
func openHub(key hubKey, adapter Adapter, s brokerSettings) (*hub, error) {
	log, err := adapter.Open(key.name, logger)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	b, err := broker.New(log, s.broker)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the broker: %w", err), log.Close())
	}
	h := &hub{
		key:           key,
		log:           log,
		broker:        b,
		server:        stream.NewServer(b),
		exit:          make(chan struct{}),
		maxPerAddress: s.maxPerAddress,
		empty:         make(chan struct{}),
		streams:       make(map[*live]struct{}),
		sessions:      make(map[string]*live),
		ticketed:      make(map[ticketKey]*live),
		addresses:     make(map[netip.Addr]int),
		disconnects:   make(map[stream.Reason]uint64),
		refusals:      make(map[string]uint64),

		maxPerUser:      s.maxPerUser,
		users:           make(map[string]int),
		publishRefusals: make(map[string]uint64),
	}
	h.limits.configure(&s)
	h.revocations.configure(maxRevocations)
	h.used.configure(maxUsedTickets, maxUsedByOne)
	h.listen()
	hubs.add(h)
	return h, nil
}

// Destruct implements caddy.Destructor: no configuration declares the broker
// any more.
func (h *hub) Destruct() error {
	hubs.remove(h)
	for _, l := range h.list() {
		l.session.Close(stream.ReasonReload)
	}
	h.others.end()
	h.server.Close()
	return h.broker.Close()
}

// configure swaps what can change while the hub runs: the bounds, and how its
// log is reached.
func (h *hub) configure(s brokerSettings) error {
	h.mu.Lock()
	h.maxPerAddress, h.maxPerUser = s.maxPerAddress, s.maxPerUser
	h.mu.Unlock()
	h.limits.configure(&s)
	err := h.broker.Configure(s.broker)
	if r, ok := s.adapter.(Reconfigurer); ok {
		err = errors.Join(err, r.Reconfigure(h.key.name, h.log))
	}
	return err
}

// add takes in a stream that is about to be served. Where that is more than
// its address may have, the process is exiting, or the stream's configuration
// was replaced by one that does not allow it, it says so and takes nothing in.
func (h *hub) add(l *live) error {
	address, counted := countedAddress(l.address)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.exiting:
		h.refusals[refusal(errExiting)]++
		return errExiting
	case counted && h.addresses[address] >= h.maxPerAddress:
		h.refusals[refusal(errTooManyFromAddress)]++
		return errTooManyFromAddress
	case h.crowded(l.who.user):
		h.refusals[refusal(errTooManyOfUser)]++
		return errTooManyOfUser
	case h.isRevoked(*l.who, time.Now()): // since it was identified
		return errRevoked
	}
	// A request may reach a handler just after its configuration was replaced,
	// when its streams have been handed over: this one follows them.
	if app := l.endpoint.app; app != nil && app.retired.Load() {
		next, err := running.successor(l.endpoint, l.asked, *l.who, l.judge)
		if err != nil {
			h.refusals[refusal(errReplaced)]++
			return errReplaced
		}
		next.take(l)
	}
	h.streams[l] = struct{}{}
	h.sessions[l.session.ID()] = l
	if counted {
		h.addresses[address]++
	}
	l.counted = l.who.user
	h.countUser(l.counted, 1)
	h.takeOver(l)
	return nil
}

// session is the stream of that name, nil if there is none.
func (h *hub) session(id string) *live {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

// end is called when a stream has ended that was served. It is logged before it
// leaves: when the last one has left, an exit goes on, and closes the logs.
func (h *hub) end(l *live) {
	if l.logged != nil {
		h.mu.Lock()
		e := l.endpoint
		h.mu.Unlock()
		e.log.write(l)
	}
	h.remove(l)
}

// remove takes out a stream that has ended. It may be called for one that is
// not in, and does nothing then.
func (h *hub) remove(l *live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, in := h.streams[l]; !in {
		return
	}
	delete(h.streams, l)
	delete(h.sessions, l.session.ID())
	if h.ticketed[l.ticket] == l {
		delete(h.ticketed, l.ticket)
	}
	if h.exiting && len(h.streams) == 0 {
		close(h.empty)
	}
	if address, counted := countedAddress(l.address); counted {
		if h.addresses[address]--; h.addresses[address] == 0 {
			delete(h.addresses, address)
		}
	}
	h.countUser(l.counted, -1)
	h.disconnects[l.session.Reason()]++
}

// enter counts a poll against its address and its user, as long as it waits.
// One that may not is not counted; depart is for the others.
func (h *hub) enter(address, user string) error {
	a, counted := countedAddress(address)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.draining():
		h.refusals[refusal(errExiting)]++
		return errExiting
	case counted && h.addresses[a] >= h.maxPerAddress:
		h.refusals[refusal(errTooManyFromAddress)]++
		return errTooManyFromAddress
	case h.crowded(user):
		h.refusals[refusal(errTooManyOfUser)]++
		return errTooManyOfUser
	case counted:
		h.addresses[a]++
	}
	h.countUser(user, 1)
	return nil
}

// depart ends what enter began.
func (h *hub) depart(address, user string) {
	a, counted := countedAddress(address)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.countUser(user, -1)
	if !counted {
		return
	}
	if h.addresses[a]--; h.addresses[a] == 0 {
		delete(h.addresses, a)
	}
}

// crowded reports whether a user has as many streams as one may have; nobody
// in particular has not. The caller holds hub.mu.
func (h *hub) crowded(user string) bool {
	return user != "" && h.users[user] >= h.maxPerUser
}

// countUser counts a stream of a user, or takes it out. The caller holds hub.mu.
func (h *hub) countUser(user string, n int) {
	if user == "" {
		return
	}
	if h.users[user] += n; h.users[user] == 0 {
		delete(h.users, user)
	}
}

// refused counts a subscriber that was turned away for err, a limit's.
func (h *hub) refused(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusals[refusal(err)]++
}

// draining reports whether the process has begun to exit: subscribers are
// asked to come back later.
func (h *hub) draining() bool {
	select {
	case <-h.exit:
		return true
	default:
		return false
	}
}

// exitSlack is the time after its drain time that a stream may take to end.
const exitSlack = 500 * time.Millisecond

// leave begins the exit: no stream is taken in any more, and those that are in
// end at random moments of their drain time, bounded by grace if it is not 0.
func (h *hub) leave(grace time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.exiting {
		return
	}
	h.exiting = true
	close(h.exit)
	if len(h.streams) == 0 {
		close(h.empty)
	}
	for l := range h.streams {
		within := drainWithin(l.endpoint.stream.drain, grace)
		h.drain = max(h.drain, within)
		l.session.Drain(within, stream.ReasonShutdown)
		time.AfterFunc(within+exitSlack, func() { press(l.session) })
	}
}

// press ends a stream that was to have ended. A client that does not read would
// hold up the exit until the write times out. What is aborted is the write that
// goes on, if one does: the next may be stalled again.
func press(s *stream.Session) {
	select {
	case <-s.Done():
	default:
		s.Abort()
		time.AfterFunc(exitSlack, func() { press(s) })
	}
}

// await waits for the streams of a hub that leaves to end. Caddy's server waits
// for those whose handler has not returned; nobody else does for the rest.
func (h *hub) await() {
	h.mu.Lock()
	within := h.drain + 2*exitSlack
	h.mu.Unlock()
	select {
	case <-h.empty:
	case <-time.After(within):
	}
}

// list returns the streams of now.
func (h *hub) list() []*live {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*live, 0, len(h.streams))
	for l := range h.streams {
		list = append(list, l)
	}
	return list
}

// countedAddress reads a client's address, and whether its streams are counted:
// those from this host are not, and neither are those without an IP address,
// which come over a Unix socket. Of IPv6 the network is one address: whoever
// has one host in it has all the others.
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

// Interface guard
var _ caddy.Destructor = (*hub)(nil)
