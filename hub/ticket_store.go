package hub

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
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
type ticketStore struct {
	mu      sync.Mutex // guards what follows
	ids     ttlmap.Map[ticketKey, usedTicket]
	owners  map[string]int // the number of tickets of each owner
	most    int            // bounds all tickets
	each    int            // bounds the tickets of one owner
	untold  []ticketKey    // in use here, and the log is still to be told
	tellers int            // the number of goroutines that tell it
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
	Owner string `json:"owner,omitempty"` // see access.TicketUse
}

// after reports whether t is the later use of a ticket than other. The order of the
// log does not decide that, because a node that was cut off writes to it late.
func (t *usedTicket) after(other *usedTicket) bool {
	return t.At > other.At || t.At == other.At && t.Node > other.Node
}

// Bounds of the tickets in use.
const (
	maxUsedTickets = 100_000
	maxUsedByOne   = maxUsedTickets / 10 // of one user, who could use up all of them otherwise
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

func (u *ticketStore) init(all, each int) {
	u.owners, u.most, u.each = make(map[string]int), all, each
	u.ids.Limit = math.MaxInt // put takes all of the log's; full bounds those of this node
	u.ids.Expired = func(t usedTicket) {
		if u.owners[t.Owner]--; u.owners[t.Owner] <= 0 {
			delete(u.owners, t.Owner)
		}
	}
}

// put adds a ticket that is not in use. ticketStore.mu is held.
func (u *ticketStore) put(key ticketKey, t usedTicket, end, now time.Time) {
	if u.ids.Has(key) { // it has expired: Sweep counts it off its owner's
		u.ids.Sweep(now)
	}
	u.ids.Set(key, t, end, now)
	if t.Owner != "" {
		u.owners[t.Owner]++
	}
}

// full reports whether there are as many tickets in use as there may be.
// ticketStore.mu is held.
func (u *ticketStore) full(now time.Time) bool {
	if u.ids.Len() >= u.most {
		u.ids.Tidy(now)
	}
	return u.ids.Len() >= u.most
}

// crowded reports whether an owner has as many tickets in use as one may have.
// ticketStore.mu is held.
func (u *ticketStore) crowded(owner string, now time.Time) bool {
	if u.owners[owner] >= u.each {
		u.ids.Tidy(now)
	}
	return u.owners[owner] >= u.each
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

// useTicket records that the ticket of a stream that is being taken in is in use, if
// it is good still. The error is that of MayUseTicket, or of a bound, a
// *problem.Error.
func (h *Hub) useTicket(t *access.TicketUse, now time.Time) error {
	u := &h.tickets
	u.mu.Lock()
	defer u.mu.Unlock()
	switch used, err := h.mayUse(t, now, false); {
	case err != nil || used:
		return err
	case u.crowded(t.Owner, now):
		return problem.Overloaded.Because("%w: %d of one user", errTooManyTickets, u.each)
	case u.full(now):
		return problem.Overloaded.Because("%w: %d", errTooManyTickets, u.most)
	}
	key := ticketKeyOf(t.ID)
	u.put(key, usedTicket{Node: h.broker.Node(), At: now.UnixMilli(), Owner: t.Owner}, t.End, now)
	h.tellTicket(key)
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
	s.ticket, h.ticketed[key] = key, s

	u, now := &h.tickets, time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if t, used := u.ids.Get(key, now); used && t.Node != h.broker.Node() {
		t.Node, t.At = h.broker.Node(), max(now.UnixMilli(), t.At+1) // the other node's clock may be ahead
		_, until, _ := u.ids.Entry(key)
		u.ids.Set(key, t, until, now)
		h.tellTicket(key)
	}
}

// tellTicket has the log told that a ticket is in use at this node. ticketStore.mu
// is held.
func (h *Hub) tellTicket(key ticketKey) {
	u := &h.tickets
	u.untold = append(u.untold, key)
	if u.tellers < maxTellers {
		u.tellers++
		h.cluster.goTask(h.tellTickets)
	}
}

// tellTickets tells the log of tickets that are in use at this node, until there are
// no more or ctx ends. While the log is out of reach it tries again and again.
func (h *Hub) tellTickets(ctx context.Context) {
	for {
		key, ok := h.tickets.nextUntold()
		if !ok {
			return
		}
		for h.tellOne(ctx, key) {
			select {
			case <-time.After(tellPause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// tellOne tells the log of one ticket, and reports whether to try again.
func (h *Hub) tellOne(ctx context.Context, key ticketKey) (again bool) {
	u := &h.tickets
	u.mu.Lock()
	t, used := u.ids.Get(key, time.Now())
	_, until, _ := u.ids.Entry(key)
	u.mu.Unlock()
	if !used || t.Node != h.broker.Node() {
		return false // it has expired, or come to another node
	}
	data, err := json.Marshal(t)
	if err == nil {
		err = h.broker.SetFact(ctx, key.fact(), data, until)
	}
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, broker.ErrClosed):
		return false
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrLoading), errors.Is(err, broker.ErrUncertain):
		return true
	}
	h.logger.Error("other nodes are not told that a ticket is in use", slog.String("broker", h.name), slog.Any("error", err))
	return false
}

// nextUntold returns a ticket that the log is to be told of. If it reports false,
// the calling goroutine counts as ended.
func (u *ticketStore) nextUntold() (key ticketKey, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.untold) == 0 {
		u.untold = nil
		u.tellers--
		return key, false
	}
	key, u.untold = u.untold[0], u.untold[1:]
	return key, true
}

// onTicket handles the fact of a ticket in use.
func (h *Hub) onTicket(name string, n *broker.Notice, now time.Time) {
	var key ticketKey
	raw, err := base64.RawURLEncoding.Strict().DecodeString(name)
	if err != nil || copy(key[:], raw) != len(raw) || n.Data == nil {
		return // where the fact was removed, the ticket has expired here, too
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

// learn adds what the log says of a ticket, and reports whether it was news.
func (u *ticketStore) learn(key ticketKey, t usedTicket, end, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, used := u.ids.Get(key, now)
	switch {
	case !now.Before(end):
		return false
	case !used:
		u.put(key, t, end, now)
	case !t.after(&old):
		return false
	default:
		t.Owner = old.Owner
		u.ids.Set(key, t, end, now)
	}
	return true
}
