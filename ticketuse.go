package evstream

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/stream"
)

// byTicket reads a ticket from the query. It opens streams and nothing else.
func (a *access) byTicket(r *http.Request) (caller, bool, error) {
	if a.tickets == nil || r.URL.RawQuery == "" {
		return caller{}, false, nil
	}
	sealed, given, err := query(r.URL.RawQuery).one("ticket")
	if err != nil || !given {
		return caller{}, given, err
	}
	if r.Method != http.MethodGet {
		return caller{}, true, unauthorized.because("a ticket is for reading only")
	}
	t, err := a.tickets.open(sealed)
	if err != nil {
		return caller{}, true, err
	}
	if err := a.checkTicket(t, r); err != nil {
		return caller{}, true, err
	}
	who := caller{
		name: t.Name, user: t.User, tokenID: t.ID, parent: t.Parent, method: byTicket,
		expires: time.UnixMilli(t.End),
	}
	if t.Claims != nil {
		c, err := readClaims(t.Claims)
		if err == nil {
			err = who.take(c)
		}
		if err != nil {
			return caller{}, true, fmt.Errorf("%w: %w", errTicket, err)
		}
	}
	who.expires, who.issued = time.UnixMilli(t.End), time.Time{}
	if t.Issued != 0 {
		who.issued = time.UnixMilli(t.Issued)
	}
	_, again := askedBefore(r)
	return who, true, a.hub.useTicket(t, time.Now(), again)
}

// checkTicket reports why a request may not use a ticket that is genuine.
func (a *access) checkTicket(t *ticket, r *http.Request) error {
	port := localPort(r)
	switch {
	case !a.accepts(t.Method):
		return fmt.Errorf("%w: it was given for a credential of a kind that is not accepted", errTicket)
	case t.Name != "" && !bytes.Equal(t.Proof, a.proof(t.Name)):
		return fmt.Errorf("%w: the secret of bearer %s is another", errTicket, t.Name)
	case a.tickets.own && (t.Host != hostname(r.Host) || port != "" && t.Port != "" && t.Port != port):
		return fmt.Errorf("%w: it was given for another host", errTicket)
	case !sameOriginAs(t.Origin, r):
		return fmt.Errorf("%w: it was given to a page of another origin", errTicket)
	}
	return nil
}

// accepts reports whether a kind of credential is configured still.
func (a *access) accepts(m method) bool {
	switch m {
	case byBearer:
		return len(a.bearers) > 0
	case byToken:
		return a.tokens != nil
	case byCaddy:
		return a.caddyAuth
	case byApplication:
		return a.application != nil
	}
	return false
}

// proof tells a bearer's secret from the one that it is exchanged for.
func (a *access) proof(name string) []byte {
	for i := range a.bearers {
		if name != "" && a.bearers[i].name == name {
			digest := sha256.Sum256(a.bearers[i].digest[:])
			return digest[:8]
		}
	}
	return nil
}

// sameOriginAs reports whether a stream is asked for by a page of the origin
// that was given the ticket; "" is no page, but a program. A browser names the
// origin where it is not the stream's own. Where it is, it says so in
// Sec-Fetch-Site, if it is not too old.
func sameOriginAs(origin string, r *http.Request) bool {
	if named := r.Header["Origin"]; len(named) > 0 {
		return len(named) == 1 && origin != "" && strings.ToLower(named[0]) == origin
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if origin == "" {
		return site == ""
	}
	u, err := url.Parse(origin)
	return err == nil && (site == "" || site == "same-origin") && strings.EqualFold(u.Host, withoutDefaultPort(r.Host, u.Scheme))
}

func withoutDefaultPort(host, scheme string) string {
	port := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return strings.TrimSuffix(host, port)
}

// hostname is the host of a request without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

// localPort is the port that a request came to, or "" where that is not known.
func localPort(r *http.Request) string {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return ""
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return ""
	}
	return port
}

// takeOver ends the stream that a ticket has opened before: a ticket is for one
// session, which has come back, whether or not its old connection is known to
// be dead. hub.mu is held.
func (h *hub) takeOver(l *live) {
	if l.who.method != byTicket {
		return
	}
	if old := h.ticketed[l.who.tokenID]; old != nil {
		old.session.Close(stream.ReasonReplaced)
	}
	h.ticketed[l.who.tokenID] = l
}

// usedTickets are the tickets that have opened a stream, until they end: they
// are good for its reconnects.
type usedTickets struct {
	mu  sync.Mutex // guards ids
	ids expiring[string, struct{}]
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
	u := &h.used
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, used := u.ids.get(t.ID, now); used {
		return nil
	}
	switch {
	case again:
		return fmt.Errorf("%w: it has opened no stream", errTicket)
	case now.UnixMilli() >= t.Open:
		return errExpired
	case !u.ids.put(t.ID, struct{}{}, end, now):
		return overloaded.because("%w: %d", errTooManyTickets, maxUsedTickets)
	}
	return nil
}
