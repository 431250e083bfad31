// Package hub serves the streams of one broker: which subscribers are taken in,
// who has been revoked, which tickets are in use, and what the nodes that share a
// log tell each other. It knows nothing of HTTP: see package httpapi.
package hub

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/ratelimit"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/stream"
)

// Hub is a broker and the streams that are served from it. Its methods are safe
// for concurrent use. Close it when it is not needed any more.
//
// Lock order: Hub.mu, then ticketStore.mu. While either is held, cluster.mu,
// revocationList.mu, those of the rates, of watchers, of the observer and of the
// presence table may be taken, which are leaves: nothing is locked while one of them is
// held. While Hub.mu is held, the locks of streams
// and of the broker may be taken, because streams are ended under it; never the
// other way round: the broker calls onNotice, and a stream its OnEnd, without
// their locks. While Hub.mu is held nothing waits for a client, the log or another
// node, and no rule, matcher or application is asked.
type Hub struct {
	name   string
	logger *slog.Logger
	broker *broker.Broker
	server *stream.Server
	exit   chan struct{} // closed when the process begins to exit
	limits limits

	revocations revocationList
	tickets     ticketStore
	cluster     cluster
	activity    activity // of readers
	members     activity
	presence    *presence.Table
	runs        *runs.Table

	closing  sync.Once
	closeErr error // of the one call that closed it

	mu        sync.Mutex // guards what follows, and the standing of every session in it
	exiting   bool
	drain     time.Duration // when exiting: the longest drain time of a stream
	config    Config        // as of the last SetConfig
	observer  Observer      // nil: nobody is told what happens
	empty     chan struct{} // closed when the last stream leaves a hub that is exiting
	sessions  map[string]*Session
	ticketed  map[ticketKey]*Session // the stream of each ticket
	addresses map[netip.Addr]int
	users     map[string]int
	watchers  []*watcher

	disconnects     map[stream.Reason]uint64
	refusals        map[string]uint64
	publishRefusals map[string]uint64
	serving         map[Serving]int
}

// Config is how a Hub is configured. Fields that are zero have their defaults.
type Config struct {
	// Name is the name of the broker, in logs. Default: "default".
	Name string
	// Broker bounds what is kept. Default, if MaxChannels is 0:
	// broker.DefaultConfig.
	Broker broker.Config

	// MaxPerAddress is how many streams one client address may hold at a time.
	// Loopback addresses are not counted. Default: 200.
	MaxPerAddress int
	// MaxPerUser is how many streams one user may hold at a time. Default:
	// broker.Unlimited.
	MaxPerUser int
	// ConnectRate is how many streams and polls a client address may begin.
	// Default: 100 a second, 200 at once.
	ConnectRate Rate
	// RefusedRate is how many credentials of a client address may be refused: over
	// it, none is looked at. Default: 20 a second, 200 at once.
	RefusedRate Rate
	// ReadRate is how many reads one caller may make that are no streams: polls,
	// documents, values and tickets. Default: 100 a second, 1000 at once.
	ReadRate Rate
	// PublishRate is how many events one caller may publish. Default: unlimited.
	PublishRate Rate
	// PublishBytes is how many bytes of data one caller may publish. Default:
	// unlimited.
	PublishBytes Rate

	// Rules say what may be published to which channels. Default: anything.
	Rules *PublishRules
	// Presence says which channels have presence. Default: none.
	Presence *presence.Rules

	// Logger is for what concerns the operator. Default: slog.Default.
	Logger *slog.Logger
}

// fill sets the defaults, and reports the first impossible value.
func (c *Config) fill() error {
	if c.Name == "" {
		c.Name = "default"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Broker.MaxChannels == 0 {
		c.Broker = broker.DefaultConfig()
	}
	if c.Broker.Logger == nil {
		c.Broker.Logger = c.Logger
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = 200
	}
	if c.MaxPerUser == 0 {
		c.MaxPerUser = broker.Unlimited
	}
	if c.ConnectRate == (Rate{}) {
		c.ConnectRate = Rate{PerSecond: 100, Burst: 200}
	}
	if c.RefusedRate == (Rate{}) {
		c.RefusedRate = Rate{PerSecond: 20, Burst: 200}
	}
	if c.ReadRate == (Rate{}) {
		c.ReadRate = Rate{PerSecond: 100, Burst: 1000}
	}
	for name, r := range map[string]*Rate{"ConnectRate": &c.ConnectRate, "RefusedRate": &c.RefusedRate, "ReadRate": &c.ReadRate, "PublishRate": &c.PublishRate, "PublishBytes": &c.PublishBytes} {
		switch {
		case r.Unlimited || *r == (Rate{}):
		case !(r.PerSecond > 0) || r.Burst < 0:
			return fmt.Errorf("%s must be above 0 a second, with a burst of at least 0, not %v with %d", name, r.PerSecond, r.Burst)
		case r.Burst == 0:
			r.Burst = max(1, int(min(2*r.PerSecond, ratelimit.Max)))
		}
	}
	return nil
}

// Open starts a hub on a log. It takes over the log: Close closes it. On error the
// log is the caller's still.
func Open(log broker.Log, c Config) (*Hub, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	b, err := broker.New(log, c.Broker)
	if err != nil {
		return nil, fmt.Errorf("starting the broker: %w", err)
	}
	h := &Hub{
		name:      c.Name,
		logger:    c.Logger,
		broker:    b,
		server:    stream.NewServer(b),
		exit:      make(chan struct{}),
		config:    c,
		empty:     make(chan struct{}),
		sessions:  make(map[string]*Session),
		ticketed:  make(map[ticketKey]*Session),
		addresses: make(map[netip.Addr]int),
		users:     make(map[string]int),

		disconnects:     make(map[stream.Reason]uint64),
		refusals:        make(map[string]uint64),
		publishRefusals: make(map[string]uint64),
		serving:         make(map[Serving]int),
	}
	h.limits.schemaTurns = newSchemaTurns(runtime.GOMAXPROCS(0))
	h.limits.set(&c)
	h.revocations.init(maxRevocations)
	h.initTickets(maxUsedTickets, maxUsedByOne)
	h.activity.kind, h.members.kind = readersKind(), membersKind()
	h.openPresence(&c)
	h.openRuns()
	h.listen()
	return h, nil
}

// Close ends all streams and closes the broker and its log. Calls after the first
// wait for that one and return its error.
func (h *Hub) Close() error {
	h.closing.Do(func() {
		for _, s := range h.Sessions() {
			s.Stream.Close(stream.ReasonReload)
		}
		h.closeRuns()
		h.cluster.stop()
		h.server.Close()
		h.Observe(nil, false, false)
		h.closePresence()
		h.closeErr = h.broker.Close()
	})
	return h.closeErr
}

// SetConfig replaces the configuration, but for the name and the logger, which stay
// as they are. On error nothing has changed. Concurrent calls may leave a mixture of
// their configurations.
func (h *Hub) SetConfig(c Config) error {
	c.Name, c.Logger = h.name, h.logger
	if err := c.fill(); err != nil {
		return err
	}
	if err := h.broker.Configure(c.Broker); err != nil {
		return err
	}
	h.mu.Lock()
	h.config = c
	h.setPresence(c.Presence)
	h.mu.Unlock()
	h.limits.set(&c)
	return nil
}

// Config is the configuration as it is now, with defaults filled in.
func (h *Hub) Config() Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.config
}

// Name is the name of the broker.
func (h *Hub) Name() string { return h.name }

// Broker is the hub's broker.
func (h *Hub) Broker() *broker.Broker { return h.broker }

// NewStream makes a stream that is not in the hub and not served yet: see Add. The
// error is one of the broker's limits.
func (h *Hub) NewStream(o stream.Options) (*stream.Session, error) { return h.server.Session(o) }

// WillDetach reports whether a stream of r will be detached from conn: see stream.Server.
func (h *Hub) WillDetach(r *http.Request, conn net.Conn) bool { return h.server.WillDetach(r, conn) }
