// Package broker is the in-process engine of evstream: it publishes to a log,
// applies what the log orders to the histories of channels, and moves the
// cursors of those who read them.
//
//	Publish ─▶ Log ─▶ apply ─▶ histories ─▶ Subscription ─▶ reader
//
// A history is the encoded events of a channel; a feed is a history and who reads
// it. The package knows nothing of HTTP.
//
// There are three locks, taken in this order: the log's own, because the log calls
// apply with it; Broker.mu, because apply may add a feed to a subscription;
// Subscription.mu. Readers of a history's bytes take none of them.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// Errors of Publish and Subscribe, matched with errors.Is.
var (
	ErrReservedType = errkind.New("bad-event", "", `event types that begin with "evstream." belong to the hub`)
	ErrReservedID   = errkind.New("bad-event", "", `an event id must not look like a position ("1763687000123-0") or begin with "evstream."`)
	ErrBeneath      = errors.New(`a name that ends in "/" can be published to, not read`)
	ErrNoChannels   = errkind.New("bad-parameter", "", "a subscription needs a channel")

	ErrEventTooLarge               = errkind.New("too-large", "", "the event's data is too large")
	ErrTooManyChannels             = errkind.New("overloaded", "max_channels", "too many channels")
	ErrTooManySubscriptionPatterns = errkind.New("too-many-channels", "max_session_patterns", "too many wildcard patterns for one subscription")
	ErrTooManyPatterns             = errkind.New("overloaded", "max_patterns", "too many wildcard patterns are read")
	ErrTooManySubscriptions        = errkind.New("overloaded", "max_connections", "too many subscriptions")
	ErrTooManySubscribers          = errkind.New("overloaded", "max_subscribers", "too many subscribers on the channel")
	ErrTooManySubscriptionChannels = errkind.New("too-many-channels", "max_session_channels", "too many channels in one subscription")
)

// OpError is the error of a Publish of which one operation was refused: the one
// with that index.
type OpError struct {
	Index int
	Err   error
}

func (e *OpError) Error() string { return e.Err.Error() }
func (e *OpError) Unwrap() error { return e.Err }

// Broker is one engine and its log. Methods are safe for concurrent use.
type Broker struct {
	log    Log
	stop   context.CancelFunc
	done   sync.WaitGroup
	kick   chan struct{} // tells wakeLoop that feeds were touched
	wave   wave          // the readers that it woke last
	head   atomic.Pointer[ID]
	full   atomic.Bool // there may be no room for another channel
	config atomic.Pointer[Config]
	turns  *turns
	steps  refillSteps
	counts
	publishes publishes

	byPolicy bool    // the log keeps entries by their policies
	cluster  Cluster // the log, if several nodes share it, else nil
	node     string  // the name of this node in it
	standing atomic.Pointer[standing]
	notices  *notices
	observer atomic.Pointer[Observer] // nil: nobody is told what happens

	mu        sync.Mutex // guards what follows
	cfg       Config
	rules     []compiledRule
	digest    uint64 // of the policies of cfg
	durable   bool
	issued    issuedIDs
	born      ID
	known     ID     // up to it all ids count as issued, if they are not below born
	void      []Span // but these do not
	missing   missingIDs
	feeds     map[string]*feed // channels and names beneath
	names     nameIndex        // of feeds
	patterns  map[string]*feed
	lossMarks lossMarks
	held      [tables]int // how many feeds each table has
	owners    owners
	prefixes  prefixIndex // of patterns
	unread    idleList    // patterns without readers, left longest ago first
	idle      idleList    // channels without readers, used longest ago first
	largest   sizeHeap
	bytes     int
	touched   []*feed // that have few readers, which wake is to wake
	crowded   []*feed // whose readers wakeLoop is to wake
	waking    []*feed // of the wave that wakeLoop is waking; memory for the next crowded
	scratch   []byte
	looked    int      // names and events, by the Subscribe that runs
	filling   *filling // the refill that goes on in steps
	fillings  uint64   // how many there were
	subs      map[*Subscription]struct{}
	states    states
	closedNow closedSet // the channels that are closed
	expiry    expiry
	older     older
	facts     map[string]*fact // by the names of their values
	reports   readerReports
	closed    bool
}

// counts are the running numbers of a broker.
type counts struct {
	published, delivered, gaps, skipped     atomic.Uint64
	stateWrites, stateRefused, stateRetried atomic.Uint64
}

type compiledRule struct {
	pattern channel.Pattern
	policy  Policy
	state   StatePolicy
}

// loadPatience bounds how long New waits until the log is loaded, and olderPatience how
// long then for what is older: nobody is to notice that of a log with little.
const (
	loadPatience  = time.Second
	olderPatience = 100 * time.Millisecond
)

// New starts a broker on log, which the broker owns if there is no error. It waits
// until the broker has applied what the log has, but no longer than a second, and
// not where the log is out of reach. Until it is applied, Loaded returns an error,
// and so do Publish and Subscribe. Where the log gives what is older after that, New does
// not wait for all of it: see Complete and Reach.
func New(log Log, cfg Config) (*Broker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &Broker{
		log: log, stop: stop,
		kick:      make(chan struct{}, 1),
		feeds:     map[string]*feed{},
		patterns:  map[string]*feed{},
		lossMarks: newLossMarks(),
		subs:      map[*Subscription]struct{}{},
		states:    newStates(),
		expiry:    newExpiry(),
		turns:     newTurns(),
		steps:     newRefillSteps(),
		notices:   newNotices(),
		facts:     map[string]*fact{},
		reports:   newReaderReports(),
	}
	if b.cluster, _ = log.(Cluster); b.cluster != nil {
		b.node = b.cluster.Node()
	}
	_, b.byPolicy = log.(ByPolicy)
	b.byPolicy = b.byPolicy || b.cluster != nil
	b.configure(cfg)
	b.head.Store(&ID{})
	b.standing.Store(&standing{since: time.Now()})

	f := &follower{b: b, first: make(chan struct{}), whole: make(chan struct{})}
	failed, running := make(chan error), make(chan struct{})
	defer close(running)
	b.done.Go(func() { f.run(ctx, failed, running) })
	select {
	case <-f.first:
	case <-time.After(loadPatience):
	case err := <-failed:
		stop()
		return nil, fmt.Errorf("following the log: %w", err)
	}
	if !b.Complete() {
		select {
		case <-f.whole:
		case <-time.After(olderPatience):
		case err := <-failed:
			stop()
			return nil, fmt.Errorf("following the log: %w", err)
		}
	}
	b.done.Go(func() { b.wakeLoop(ctx) })
	b.done.Go(func() { b.sweepLoop(ctx) })
	b.done.Go(func() { b.expireStates(ctx) })
	if b.cluster != nil {
		b.done.Go(func() { b.reportReaders(ctx) })
	}
	return b, nil
}

// Configure replaces the configuration of a running broker. Events over a smaller
// bound are dropped; subscriptions over one go on. With an error nothing changes.
func (b *Broker) Configure(cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.digest
	b.configure(cfg)
	if b.digest != old {
		b.missing.mixed = b.issued.last // a channel may have had another policy
	}
	for _, f := range b.feeds {
		b.setPolicy(f, b.policyOf(f.name))
		f.meta = &meta{channel: f.name, live: f.policy.Events == 0}
		if f.state != nil {
			b.setPolicy(f.state, statePolicyFor(f.policy))
		}
	}
	for _, p := range b.patterns {
		b.setPolicy(p, b.cfg.History)
		if p.state != nil {
			b.setPolicy(p.state, statePolicyFor(p.policy))
		}
	}
	b.configureStates()
	b.sweepAll(now)
	for b.held[inChannels] > b.cfg.MaxChannels && b.idle.first != nil {
		b.removeFeed(b.idle.first)
	}
	b.countFull()
	b.setFull()
	b.shrink(nil, 0)
	b.wake()
	return nil
}

// setPolicy replaces the policy of f. The newest segment stays even if it is over
// the bound on bytes, until there is a newer one.
func (b *Broker) setPolicy(f *feed, policy Policy) {
	f.policy = policy
	for f.charged > policy.Bytes && f.oldest != f.tail {
		b.dropOldest(f)
	}
}

func (b *Broker) configure(cfg Config) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	b.cfg, b.rules, b.digest = cfg, nil, cfg.digest()
	for _, r := range cfg.Rules {
		pattern, _ := channel.ParsePattern(r.Pattern) // validated
		b.rules = append(b.rules, compiledRule{pattern, r.Policy, r.State})
	}
	b.config.Store(&cfg)
}

// policyOf is the policy of a channel, or of a name beneath.
func (b *Broker) policyOf(name string) Policy {
	for i := range b.rules {
		if b.rules[i].pattern.Match(name) {
			return b.rules[i].policy
		}
	}
	return b.cfg.History
}

// Head is the position of the newest entry that was applied.
func (b *Broker) Head() ID { return *b.head.Load() }

// now is the time in milliseconds. It is never before that of the newest id,
// whatever the clock says.
func (b *Broker) now() uint64 {
	return max(uint64(max(time.Now().UnixMilli(), 0)), b.Head().Ms)
}

// Close closes the log, stops the broker's goroutines and waits for them. Readers
// are woken and get ErrClosed. It must be called once; its error is the log's.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	b.older.waiting.releaseAll()
	for s := range b.subs {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.waker.Wake(len(b.subs) > wakeInline)
	}
	b.mu.Unlock()
	err := b.log.Close() // before stop: what the log has accepted is still applied
	b.stop()
	b.notices.stop()
	b.done.Wait()
	return err
}
