package hub

import (
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/internal/ratelimit"
)

// Errors of rates: ErrConnectRate is that of MayConnect, ErrRefusedRate of MayTry,
// ErrReadRate of MayRead, and the others of MayPublish.
var (
	ErrRefusedRate  = errkind.New("refused-rate", "refused_rate", "too many credentials a second from this address are refused")
	ErrReadRate     = errkind.New("read-rate", "read_rate", "too many reads a second")
	ErrConnectRate  = errkind.New("connect-rate", "connect_rate", "too many new streams a second from this address")
	ErrPublishRate  = errkind.New("publish-rate", "publish_rate", "too many events a second")
	ErrPublishBytes = errkind.New("publish-bytes", "publish_bytes", "too much data a second")
)

// Rate bounds how often something may happen: PerSecond times a second on average,
// and Burst times at once. Default of Burst: what two seconds bring.
type Rate = ratelimit.Rate

// limits are the rates and the publish rules of a hub. They outlive a SetConfig:
// whoever is over a rate has to wait as before.
type limits struct {
	connects ratelimit.Meters // by address
	refused  ratelimit.Meters // by address
	reads    ratelimit.Meters // by share
	looks    ratelimit.Meters // by share
	events   ratelimit.Meters // by publisher
	bytes    ratelimit.Meters // by publisher
	rules    atomic.Pointer[PublishRules]

	schemaTurns *schemaTurns // set once
}

func (l *limits) set(c *Config) {
	l.connects.SetRate(c.ConnectRate)
	l.refused.SetRate(c.RefusedRate)
	l.reads.SetRate(c.ReadRate)
	l.looks.SetRate(looksOf(c.ReadRate))
	l.events.SetRate(c.PublishRate)
	l.bytes.SetRate(c.PublishBytes)
	l.rules.Store(c.Rules)
}

// MayConnect counts a new stream or poll against the rate of the client's address.
// It is to be called before anything else is done for the subscriber, so that a
// flood is refused cheaply. The error is ErrConnectRate.
func (h *Hub) MayConnect(client string) error {
	if !takeFor(&h.limits.connects, client, 1) {
		return ErrConnectRate
	}
	return nil
}

// takeFor takes n units for the address of a client, if it is counted.
func takeFor(m *ratelimit.Meters, client string, n int) bool {
	address, counted := countedAddress(client)
	if !counted {
		return true
	}
	key := address.As16()
	return m.Take(string(key[:]), n, time.Now())
}

// MayTry reports whether a client may send a credential: not if too many of its
// address were refused. It is to be called before the credential is looked at, and
// CredentialRefused if that is refused then. The error is ErrRefusedRate.
func (h *Hub) MayTry(client string) error {
	if !takeFor(&h.limits.refused, client, 0) {
		return ErrRefusedRate
	}
	return nil
}

// CredentialRefused counts a credential of a client that is refused: see MayTry.
func (h *Hub) CredentialRefused(client string) { takeFor(&h.limits.refused, client, 1) }

// MayRead counts a read that is no stream against the rate of a caller's share, see
// ShareOf. The error is ErrReadRate, which is counted as a refusal.
func (h *Hub) MayRead(who *access.Caller, client string) error {
	share := ShareOf(who, client)
	if share == "" || h.limits.reads.Take(share, 1, time.Now()) {
		return nil
	}
	h.Refused(ErrReadRate)
	return ErrReadRate
}

// Publisher is the key under which a caller's publishing is counted: its identity,
// or for callers without one the client's address. It is "" for an endpoint that
// allows everything, whose publishing is not counted.
func Publisher(who *access.Caller, client string) string {
	switch identity := who.Identity(); {
	case who.Admin:
		return ""
	case identity != "":
		return "caller " + identity
	}
	address, _ := countedAddress(client)
	return "address " + address.String()
}

// MayPublish counts events and the bytes of their data against the rates of a
// publisher. With 0 events it counts nothing, and reports whether any may be
// published now. The error is ErrPublishRate or ErrPublishBytes; it is counted as a
// refusal, and nothing is counted against either rate.
func (h *Hub) MayPublish(publisher string, events, size int) error {
	if publisher == "" {
		return nil
	}
	now := time.Now()
	if !h.limits.events.Take(publisher, events, now) {
		h.refusedPublish(ErrPublishRate)
		return ErrPublishRate
	}
	if !h.limits.bytes.Take(publisher, size, now) {
		h.limits.events.Give(publisher, events)
		h.refusedPublish(ErrPublishBytes)
		return ErrPublishBytes
	}
	return nil
}

// NotTried gives back what MayPublish has counted of events that were not looked at,
// because one before them was refused.
func (h *Hub) NotTried(publisher string, events, size int) {
	if publisher != "" {
		h.limits.events.Give(publisher, events)
		h.limits.bytes.Give(publisher, size)
	}
}

// NotPublished gives back the bytes that MayPublish has counted, because the events
// were refused after it. Events that a rule or the broker refuses count as events all
// the same: otherwise those that are refused would have no rate at all.
func (h *Hub) NotPublished(publisher string, size int) {
	if publisher != "" {
		h.limits.bytes.Give(publisher, size)
	}
}
