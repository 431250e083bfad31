package hub

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/ttlmap"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// ticketStore has the tickets in use: those that have opened a stream. Until they
// expire they are good for its reconnects, at every node. That a ticket is in use,
// and which node it has come to last, is a fact of the log. So there is a write to
// the log for each ticket, and for each reconnect at another node than before.
//
// Each owner has a share of them. A ticket that makes room for another is forgotten:
// after its Open its client is refused, and asks for a new one. Nobody gets more by
// that: before its Open it is as good as when it was given, and still for one stream
// at a time, which is for Hub.ticketed, and the fact that its next use becomes.
type ticketStore struct {
	mu      sync.Mutex // guards what follows
	ids     ttlmap.Shared[ticketKey, usedTicket]
	untold  []untoldTicket // the log is still to be told
	tellers int            // the number of goroutines that tell it
}

// untoldTicket is a ticket that is in use here, or was forgotten.
type untoldTicket struct {
	key       ticketKey
	forgotten bool
}

// ticketKey is the key of a ticket: a digest of its id.
type ticketKey [16]byte

func ticketKeyOf(id string) ticketKey {
	digest := sha256.Sum256([]byte(id))
	return ticketKey(digest[:16])
}

// usedTicket is a ticket in use. In JSON it is the data of the fact.
type usedTicket struct {
	Node  string `json:"node"`            // where it has opened its last stream
	At    int64  `json:"at"`              // when that was, in Unix milliseconds
	Owner string `json:"owner,omitempty"` // whose share it counts in
}

// after reports whether t is the later use of a ticket than other. The order of the
// log does not decide that, because a node that was cut off writes to it late.
func (t *usedTicket) after(other *usedTicket) bool {
	return t.At > other.At || t.At == other.At && t.Node > other.Node
}

// Bounds of the tickets in use.
const (
	maxUsedTickets = 100_000
	maxUsedByOne   = maxUsedTickets / 10 // of one owner
)

const (
	// ticketFact begins the names of facts that are tickets in use.
	ticketFact = "ticket/"
	// maxTellers is how many facts are written to the log at a time, and tellPause
	// the time after which a write that failed is tried again.
	maxTellers = 8
	tellPause  = time.Second
)

func (k ticketKey) fact() string { return ticketFact + base64.RawURLEncoding.EncodeToString(k[:]) }

// initTickets makes room for so many tickets, and so many of one owner. Tickets are
// added with Hub.mu held, because a ticket with a stream here is spared.
func (h *Hub) initTickets(all, each int) {
	h.tickets.ids = ttlmap.Shared[ticketKey, usedTicket]{
		Limit: all, Share: each,
		Spare:   func(key ticketKey) bool { return h.ticketed[key] != nil },
		Dropped: func(key ticketKey, _ usedTicket) { h.tellTicket(untoldTicket{key, true}) },
	}
}

// ownerOfTicket is the share of a ticket that is used by a client. What a named bearer
// has asked for on behalf of others counts for the client's address.
func ownerOfTicket(t *access.TicketUse, client string) string {
	if t.Owner != "" {
		return t.Owner
	}
	address, counted := countedAddress(client)
	if !counted {
		return ""
	}
	digest := sha256.Sum256([]byte("address " + address.String()))
	return base64.RawURLEncoding.EncodeToString(digest[:16])
}

// put adds a ticket that is not in use, and reports whether there was room.
// ticketStore.mu and Hub.mu are held.
func (u *ticketStore) put(key ticketKey, t usedTicket, end, now time.Time) bool {
	owner := t.Owner
	if owner == "" { // of many clients behind one address: they have many shares
		owner = string(key[:1])
	}
	return u.ids.Set(key, owner, t, end, now)
}

// errUnusedTicket is the error of a ticket that has opened no stream, where one is
// asked about again.
var errUnusedTicket = errors.New("the ticket has opened no stream")

// errTooManyTickets is the error of the first use of a ticket over a bound.
var errTooManyTickets = errors.New("too many tickets are in use")

// MayUseTicket says why a ticket is not good now. Its first use must come before
// t.Open, and any other before t.End. With again, which is set where the request of
// a stream that is open is judged again, it must have been used. Only Add uses it.
//
// The error is access.ErrExpired, or ErrBehind where another node may know of a first
// use that this one does not.
func (h *Hub) MayUseTicket(t *access.TicketUse, now time.Time, again bool) error {
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	_, err := h.mayUse(t, now, again)
	return err
}

// mayUse is MayUseTicket, and reports whether the ticket is in use. ticketStore.mu is
// held.
func (h *Hub) mayUse(t *access.TicketUse, now time.Time, again bool) (used bool, err error) {
	if !now.Before(t.End) {
		return false, access.ErrExpired
	}
	if _, used := h.tickets.ids.Get(ticketKeyOf(t.ID), now); used {
		return true, nil
	}
	_, stale := h.broker.Stale()
	switch fresh := now.Before(t.Open); {
	case again:
		return false, errUnusedTicket
	case !fresh && (stale || !h.cluster.hasSettled()):
		return false, ErrBehind // another node may know that it is in use
	case !fresh:
		return false, access.ErrExpired
	}
	return false, nil
}

// useTicket records that the ticket of a stream that is being taken in, of a client's
// address, is in use, if it is good still. The error is that of MayUseTicket, or of a
// bound, a *problem.Error. Hub.mu is held.
func (h *Hub) useTicket(t *access.TicketUse, client string, now time.Time) error {
	u, key := &h.tickets, ticketKeyOf(t.ID)
	u.mu.Lock()
	defer u.mu.Unlock()
	used, err := h.mayUse(t, now, false)
	if err != nil {
		return err
	}
	if used {
		u.ids.Touch(key)
		return nil
	}
	if !u.put(key, usedTicket{Node: h.broker.Node(), At: now.UnixMilli(), Owner: ownerOfTicket(t, client)}, t.End, now) {
		return problem.Overloaded.Because("%w: %d, of as many owners", errTooManyTickets, u.ids.Limit)
	}
	h.tellTicket(untoldTicket{key, false})
	return nil
}

// takeOver ends the stream that the ticket of s has opened before: a ticket is for
// one stream, and its client has reconnected, even if its old connection does not
// look dead yet. If the old stream is at another node, that node ends it when it
// hears of this. Hub.mu is held.
func (h *Hub) takeOver(s *Session) {
	if s.standing.Caller.Method != access.ByTicket {
		return
	}
	key := ticketKeyOf(s.standing.Caller.TokenID)
	if old := h.ticketed[key]; old != nil {
		old.Stream.Close(stream.ReasonReplaced)
	}
	s.own().ticket, h.ticketed[key] = key, s

	u, now := &h.tickets, time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if t, used := u.ids.Get(key, now); used && t.Node != h.broker.Node() {
		t.Node, t.At = h.broker.Node(), max(now.UnixMilli(), t.At+1) // the other node's clock may be ahead
		_, until, _ := u.ids.Entry(key)
		u.put(key, t, until, now)
		h.tellTicket(untoldTicket{key, false})
	}
}

// tellTicket has the log told that a ticket is in use at this node, or was forgotten.
// While the log is out of reach for long, some are not told of. ticketStore.mu is held.
func (h *Hub) tellTicket(t untoldTicket) {
	u := &h.tickets
	if len(u.untold) >= 2*maxUsedTickets {
		return
	}
	u.untold = append(u.untold, t)
	if u.tellers < maxTellers {
		u.tellers++
		h.cluster.goTask(h.tellTickets)
	}
}

// tellTickets tells the log of tickets that are in use at this node, until there are
// no more or ctx ends. While the log is out of reach it tries again and again.
func (h *Hub) tellTickets(ctx context.Context) {
	for {
		next, ok := h.tickets.nextUntold()
		if !ok {
			return
		}
		for h.tellOne(ctx, next) {
			select {
			case <-time.After(tellPause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// tellOne tells the log of one ticket, and reports whether to try again.
func (h *Hub) tellOne(ctx context.Context, next untoldTicket) (again bool) {
	u, key := &h.tickets, next.key
	u.mu.Lock()
	t, used := u.ids.Get(key, time.Now())
	_, until, _ := u.ids.Entry(key)
	u.mu.Unlock()
	var err error
	switch {
	case next.forgotten && used:
		return false // it was used again
	case next.forgotten:
		_, err = h.broker.RemoveFact(ctx, key.fact())
	case !used || t.Node != h.broker.Node():
		return false // it was forgotten, has expired, or come to another node
	default:
		var data []byte
		if data, err = json.Marshal(t); err == nil {
			err = h.broker.SetFact(ctx, key.fact(), data, until)
		}
	}
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, broker.ErrClosed):
		return false
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrLoading), errors.Is(err, broker.ErrUncertain), errors.Is(err, broker.ErrFull):
		return true
	}
	h.logger.Error("other nodes are not told that a ticket is in use", slog.String("broker", h.name), slog.Any("error", err))
	return false
}

// nextUntold returns a ticket that the log is to be told of. If it reports false,
// the calling goroutine counts as ended.
func (u *ticketStore) nextUntold() (next untoldTicket, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.untold) == 0 {
		u.untold = nil
		u.tellers--
		return next, false
	}
	next, u.untold = u.untold[0], u.untold[1:]
	return next, true
}

// onTicket handles the fact of a ticket in use.
func (h *Hub) onTicket(name string, n *broker.Notice, now time.Time) {
	var key ticketKey
	raw, err := base64.RawURLEncoding.Strict().DecodeString(name)
	if err != nil || copy(key[:], raw) != len(raw) {
		return
	}
	if n.Data == nil { // it has expired, or a node has forgotten it
		h.mu.Lock()
		if h.ticketed[key] == nil {
			h.tickets.forget(key)
		}
		h.mu.Unlock()
		return
	}
	var t usedTicket
	if err := json.Unmarshal(n.Data, &t); err != nil || len(t.Owner) > 64 || t.At > n.Until.UnixMilli() {
		h.logger.Error("the log has a ticket that cannot be read", slog.String("broker", h.name), slog.Any("error", err))
		return
	}
	h.mu.Lock() // so that a stream that opens meanwhile counts as the newer one
	news, old := h.tickets.learn(key, t, n.Until, now), h.ticketed[key]
	h.mu.Unlock()
	if news && old != nil && t.Node != h.broker.Node() {
		old.Stream.Close(stream.ReasonReplaced)
	}
}

// learn adds what the log says of a ticket, and reports whether it was news. Hub.mu is
// held.
func (u *ticketStore) learn(key ticketKey, t usedTicket, end, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, used := u.ids.Get(key, now)
	switch {
	case !now.Before(end):
		return false
	case !used:
		return u.put(key, t, end, now)
	case !t.after(&old):
		return false
	default:
		t.Owner = old.Owner
		u.put(key, t, end, now)
	}
	return true
}

func (u *ticketStore) forget(key ticketKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids.Remove(key)
}
