package evstream

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// usedTickets are the tickets that have opened a stream, until they end: they
// are good for its reconnects, at every node. That one is in use, and which
// node it was used at last for a stream, is a fact of the log. So there is a
// write for each ticket, and for each reconnect at another node than before.
type usedTickets struct {
	mu      sync.Mutex // guards what follows
	ids     expiring[ticketKey, usedTicket]
	owners  map[string]int // how many of them each has
	most    int            // that there may be
	each    int            // that one owner may have
	untold  []ticketKey    // in use here, and the log is to be told
	tellers int            // goroutines that do
}

// ticketKey tells tickets apart: a digest of the ticket's id.
type ticketKey [16]byte

func ticketKeyOf(id string) ticketKey {
	digest := sha256.Sum256([]byte(id))
	return ticketKey(digest[:16])
}

// usedTicket is what is known of a ticket in use, and the data of the fact.
type usedTicket struct {
	Node  string `json:"node"`            // where it was used last for a stream
	At    int64  `json:"at"`              // when it came there, in milliseconds
	Owner string `json:"owner,omitempty"` // a digest
}

// after reports whether a ticket came to t later than to other. It does not go
// by the order of the log, which a node may reach late.
func (t *usedTicket) after(other *usedTicket) bool {
	return t.At > other.At || t.At == other.At && t.Node > other.Node
}

const (
	// ticketFact begins the names of facts that are tickets in use.
	ticketFact = "ticket/"
	// maxTellers is how many facts are on their way to the log at a time, and
	// tellPause the time until one is tried again.
	maxTellers = 8
	tellPause  = time.Second
)

func (k ticketKey) fact() string { return ticketFact + base64.RawURLEncoding.EncodeToString(k[:]) }

func (u *usedTickets) configure(all, each int) {
	u.owners, u.most, u.each = make(map[string]int), all, each
	u.ids.limit = math.MaxInt // what the log knows is in use, is
	u.ids.left = func(t usedTicket) {
		if u.owners[t.Owner]--; u.owners[t.Owner] <= 0 {
			delete(u.owners, t.Owner)
		}
	}
}

// put takes in a ticket that is not there. usedTickets.mu is held.
func (u *usedTickets) put(key ticketKey, t usedTicket, end, now time.Time) {
	if _, stale := u.ids.entries[key]; stale {
		u.ids.sweep(now)
	}
	u.ids.put(key, t, end, now)
	if t.Owner != "" {
		u.owners[t.Owner]++
	}
}

// full reports whether there are as many tickets in use as there may be.
// usedTickets.mu is held.
func (u *usedTickets) full(now time.Time) bool {
	if len(u.ids.entries) >= u.most {
		u.ids.tidy(now)
	}
	return len(u.ids.entries) >= u.most
}

// crowded reports whether an owner has as many tickets in use as one may have.
// usedTickets.mu is held.
func (u *usedTickets) crowded(owner string, now time.Time) bool {
	if u.owners[owner] >= u.each {
		u.ids.tidy(now)
	}
	return u.owners[owner] >= u.each
}

// owner is who is held to a share of the tickets: a user, or a token without
// one, as a digest. It is "" for a named bearer, who may ask for those of others.
func (t *ticket) owner() string {
	identity := caller{user: t.User, tokenID: t.Parent}.identity()
	if identity == "" {
		return ""
	}
	digest := sha256.Sum256([]byte(identity))
	return base64.RawURLEncoding.EncodeToString(digest[:16])
}

// errTooManyTickets is the error of a ticket that cannot be remembered.
var errTooManyTickets = errors.New("too many tickets are in use")

// useTicket decides whether a ticket is good by now: for its first connect
// while it is fresh, and after that only if it has made it. Where a stream is
// only asked about again, nothing is a first connect.
func (h *hub) useTicket(t *ticket, now time.Time, again bool) error {
	end := time.UnixMilli(t.End)
	if !now.Before(end) {
		return errExpired
	}
	u, key, owner := &h.used, ticketKeyOf(t.ID), t.owner()
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, used := u.ids.get(key, now); used {
		return nil
	}
	_, stale := h.broker.Stale()
	switch fresh := now.UnixMilli() < t.Open; {
	case again:
		return fmt.Errorf("%w: it has opened no stream", errTicket)
	case !fresh && (stale || !h.hasSettled()):
		return errBehind // another node may know that it is in use
	case !fresh:
		return errExpired
	case u.crowded(owner, now):
		return overloaded.because("%w: %d of one user", errTooManyTickets, u.each)
	case u.full(now):
		return overloaded.because("%w: %d", errTooManyTickets, u.most)
	}
	u.put(key, usedTicket{Node: h.broker.Node(), At: now.UnixMilli(), Owner: owner}, end, now)
	h.tellTicket(key)
	return nil
}

// takeOver ends the stream that a ticket has opened before: a ticket is for one
// session, which has come back, whether or not its old connection is known to
// be dead. If it has opened it at another node, that one does when it hears of
// this. hub.mu is held.
func (h *hub) takeOver(l *live) {
	if l.who.method != byTicket {
		return
	}
	key := ticketKeyOf(l.who.tokenID)
	if old := h.ticketed[key]; old != nil {
		old.session.Close(stream.ReasonReplaced)
	}
	l.ticket, h.ticketed[key] = key, l

	u, now := &h.used, time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if t, used := u.ids.get(key, now); used && t.Node != h.broker.Node() {
		t.Node, t.At = h.broker.Node(), max(now.UnixMilli(), t.At+1) // clocks differ
		u.ids.put(key, t, u.ids.entries[key].until, now)
		h.tellTicket(key)
	}
}

// tellTicket has the log told that a ticket is in use here. usedTickets.mu is
// held.
func (h *hub) tellTicket(key ticketKey) {
	u := &h.used
	u.untold = append(u.untold, key)
	if u.tellers < maxTellers {
		u.tellers++
		h.others.errand(h.tellTickets)
	}
}

// tellTickets tells the log of tickets that are in use here, as long as there
// are any to be told, or until ctx ends. It goes on trying: where the log is
// out of reach, those that are in use here meanwhile wait.
func (h *hub) tellTickets(ctx context.Context) {
	for {
		key, ok := h.used.nextUntold()
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

// tellOne tells the log of one ticket, and reports whether it has to be tried
// again.
func (h *hub) tellOne(ctx context.Context, key ticketKey) (again bool) {
	u := &h.used
	u.mu.Lock()
	t, used := u.ids.get(key, time.Now())
	until := u.ids.entries[key].until
	u.mu.Unlock()
	if !used || t.Node != h.broker.Node() {
		return false // it has ended, or come to another node since
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
	logger.Error("other nodes are not told that a ticket is in use", slog.String("broker", h.key.name), slog.Any("error", err))
	return false
}

// nextUntold is a ticket that the log is to be told of; where there is none, its
// teller ends.
func (u *usedTickets) nextUntold() (key ticketKey, ok bool) {
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

// heardTicket takes in that a ticket is in use.
func (h *hub) heardTicket(name string, n *broker.Notice, now time.Time) {
	var key ticketKey
	raw, err := base64.RawURLEncoding.Strict().DecodeString(name)
	if err != nil || copy(key[:], raw) != len(raw) || n.Data == nil {
		return // what has ended leaves by itself
	}
	var t usedTicket
	if err := json.Unmarshal(n.Data, &t); err != nil || len(t.Owner) > 64 || t.At > n.Until.UnixMilli() {
		logger.Error("the log has a ticket that cannot be read", slog.String("broker", h.key.name), slog.Any("error", err))
		return
	}
	h.mu.Lock() // a stream that opens meanwhile is the newer one
	news, old := h.used.learn(key, t, n.Until, now), h.ticketed[key]
	h.mu.Unlock()
	if news && old != nil && t.Node != h.broker.Node() {
		old.session.Close(stream.ReasonReplaced)
	}
}

// learn takes in what the log says of a ticket, and reports whether that was
// news.
func (u *usedTickets) learn(key ticketKey, t usedTicket, end, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, used := u.ids.get(key, now)
	switch {
	case !now.Before(end):
		return false
	case !used:
		u.put(key, t, end, now)
	case !t.after(&old):
		return false
	default:
		t.Owner = old.Owner
		u.ids.put(key, t, end, now)
	}
	return true
}
