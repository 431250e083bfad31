package evstream

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Errors of limits.
var (
	errTooManyOfUser = errors.New("too many streams of this user")
	errConnectRate   = errors.New("too many new streams a second from this address")
	errPublishRate   = errors.New("too many events a second")
	errPublishBytes  = errors.New("too much data a second")
)

// The rates of a broker that is told nothing.
var (
	defaultConnectRate = Rate{PerSecond: 100, Burst: 200}
	unlimitedRate      = Rate{Unlimited: true}
)

// limits are the rates and the rules that a hub holds everybody to, over
// reloads.
type limits struct {
	connects meters // by address
	events   meters // by who publishes
	bytes    meters // by who publishes
	channels atomic.Pointer[channelRules]
}

func (l *limits) configure(s *brokerSettings) {
	l.connects.configure(s.connectRate)
	l.events.configure(s.publishRate)
	l.bytes.configure(s.publishBytes)
	l.channels.Store(&s.channels)
}

// mayConnect counts a subscriber against its address, before anything else is
// done for it: who floods is refused cheaply.
func (l *limits) mayConnect(r *http.Request) error {
	address, counted := countedAddress(clientAddress(r))
	if !counted {
		return nil
	}
	key := address.As16()
	if !l.connects.take(string(key[:]), 1, time.Now()) {
		return errConnectRate
	}
	return nil
}

// author is who publishes: whose idempotency keys, and whose rate counts.
type author struct {
	key   broker.Key
	meter string // "" is nobody's
	who   caller
	asked *http.Request // whose handler has not returned
}

// author finds out who publishes, and refuses at once who may not by the rate.
func (e *endpoint) author(r *http.Request, who caller) (author, error) {
	key, err := keyOf(r, who)
	if err != nil {
		return author{}, err
	}
	by := author{key: key, who: who, asked: r}
	switch {
	case who.admin:
		return by, nil
	case who.identity() != "":
		by.meter = "caller " + who.identity()
	default:
		address, _ := countedAddress(clientAddress(r))
		by.meter = "address " + address.String()
	}
	return by, e.hub.count(by, 0, 0)
}

// count counts events and their bytes against who publishes them.
func (h *hub) count(by author, events, size int) error {
	if by.meter == "" {
		return nil
	}
	now := time.Now()
	if !h.limits.events.take(by.meter, events, now) {
		h.refusedPublish(errPublishRate)
		return errPublishRate
	}
	if !h.limits.bytes.take(by.meter, size, now) {
		h.refusedPublish(errPublishBytes)
		return errPublishBytes
	}
	return nil
}

// append is the way to the log for what a request brings, but for changes of
// values that are computed there: it holds who publishes to their rate, and the
// events to what their channels take.
func (e *endpoint) append(ctx context.Context, by author, ops []broker.Op) ([]broker.Result, error) {
	size := 0
	for i := range ops {
		size += sizeOf(&ops[i])
	}
	if err := e.mayAppend(by, ops, size); err != nil {
		return nil, err
	}
	rules := *e.hub.limits.channels.Load()
	for i := range ops {
		if err := rules.check(&ops[i]); err != nil {
			e.hub.refusedPublish(err)
			return nil, &broker.OpError{Index: i, Err: err}
		}
	}
	return e.hub.broker.Publish(ctx, ops)
}

// mayAppend decides whether who publishes still may, and counts it: so many
// operations, and bytes of data.
func (e *endpoint) mayAppend(by author, ops []broker.Op, size int) error {
	// A body may go on for longer than the credential is good, and than what
	// allowed it is configured.
	now, err := e.follow(by.asked, by.who, func(e *endpoint, r *http.Request) (caller, error) {
		who, err := e.writer(r)
		for i := 0; err == nil && i < len(ops); i++ {
			do := doPublish
			if ops[i].Kind == broker.KindState {
				do = doState
			}
			err = e.access.require(who, do, ops[i].Channel)
		}
		return who, err
	})
	if err != nil {
		return err
	}
	if err := e.hub.still(now.who, time.Now()); err != nil {
		return err
	}
	return e.hub.count(by, len(ops), size)
}

// refusedPublish counts events that were not taken.
func (h *hub) refusedPublish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publishRefusals[publishRefusal(err)]++
}

// publishRefusals are the values of the label "reason" for events that were
// not taken.
var publishRefusals = []string{"publish_rate", "publish_bytes", "event_types", "schema"}

// publishRefusal names the reason of err.
func publishRefusal(err error) string {
	switch problemOf(err).kind {
	case publishRate:
		return "publish_rate"
	case publishBytes:
		return "publish_bytes"
	case badType:
		return "event_types"
	}
	return "schema"
}
