package evstream

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/chacha20poly1305"
)

// TicketsConfig turns on tickets: POST to _tickets with any other credential
// gives a short-lived one for the query of a stream's URL, which is all that an
// EventSource can send.
type TicketsConfig struct {
	// How long a ticket is good for its first connect, at least 1s and at most
	// 1h. Default: 1m.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Secrets of at least 32 bytes, which may be {env.NAME} or
	// {file./abs/path}; unset or empty is an error. Tickets are made with the
	// first and accepted with any, so that it can be exchanged. Handlers and
	// nodes with the same secret accept each other's tickets for the same
	// broker and mount. Default: a key that this process makes and keeps until
	// it ends; its tickets are good for the host that gave them.
	Keys []string `json:"keys,omitempty"`
}

// How long tickets last, and how large they get.
const (
	ticketLifetime = time.Minute
	maxTicketAge   = 24 * time.Hour // for reconnects
	maxTicket      = 4 << 10        // bytes, as it stands in a URL
	maxUsedTickets = 100_000
)

// tickets makes and opens tickets. They are encrypted, because they stand in
// URLs, and so in logs. It does not change once it is made.
type tickets struct {
	lifetime time.Duration
	keys     []cipher.AEAD // the first makes, all open
	own      bool          // the key is this process's
	scope    []byte        // what a ticket is good for, beside what it says
}

// ticket is what a ticket holds. Times are in milliseconds.
type ticket struct {
	ID     string          `json:"i"`
	Open   int64           `json:"o"`           // the first connect is before
	End    int64           `json:"e"`           // and any other
	Origin string          `json:"r,omitempty"` // of the page that asked for it
	Host   string          `json:"h,omitempty"` // where it was asked for, if the key is this process's
	Port   string          `json:"p,omitempty"`
	Method method          `json:"m"`
	Name   string          `json:"n,omitempty"` // a named bearer's
	Proof  []byte          `json:"f,omitempty"` // of its secret, or of what else stands behind the credential
	User   string          `json:"u,omitempty"`
	Claims json.RawMessage `json:"c,omitempty"`
	Parent string          `json:"t,omitempty"`
	Issued int64           `json:"s,omitempty"`
}

// processKey is the key of those who configure none. It lives over reloads.
var processKey = sync.OnceValue(func() []byte {
	key := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	return key
})

// settings reads all but the keys, which may not be there yet.
func (c *TicketsConfig) settings() (*tickets, error) {
	t := &tickets{lifetime: time.Duration(c.Lifetime)}
	switch {
	case c.Lifetime == 0:
		t.lifetime = ticketLifetime
	case t.lifetime < time.Second || t.lifetime > time.Hour:
		return nil, fmt.Errorf("lifetime must be from 1s to 1h, not %s", t.lifetime)
	}
	if len(c.Keys) > 4 {
		return nil, fmt.Errorf("there are %d keys, at most 4 are accepted", len(c.Keys))
	}
	return t, nil
}

func newTickets(c *TicketsConfig, broker, mount string) (*tickets, error) {
	t, err := c.settings()
	if err != nil {
		return nil, err
	}
	keys := [][]byte{processKey()}
	if t.own = len(c.Keys) == 0; !t.own {
		keys = nil
	}
	for i, raw := range c.Keys {
		secret, err := caddy.NewReplacer().ReplaceOrErr(raw, true, true)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if len(secret) < 32 {
			return nil, fmt.Errorf("key %d has %d bytes, at least 32 are needed", i+1, len(secret))
		}
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "evstream tickets", chacha20poly1305.KeySize)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	for _, key := range keys {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, err
		}
		t.keys = append(t.keys, aead)
	}
	t.scope = scopeOf(broker, mount)
	return t, nil
}

// scopeOf names what a ticket is good for. The length before each part keeps
// one broker's mount from being another's.
func scopeOf(parts ...string) []byte {
	scope := []byte("evstream ticket 1")
	for _, part := range parts {
		scope = binary.BigEndian.AppendUint64(scope, uint64(len(part)))
		scope = append(scope, strings.ToLower(part)...)
	}
	return scope
}

// seal encrypts a ticket.
func (t *tickets) seal(content *ticket) (string, error) {
	plain, err := json.Marshal(content)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	_, _ = rand.Read(nonce) // never fails: it ends the process instead
	sealed := base64.RawURLEncoding.EncodeToString(t.keys[0].Seal(nonce, nonce, plain, t.scope))
	if len(sealed) > maxTicket {
		return "", tooLarge.because("the ticket would have %d bytes, at most %d are allowed: the claims are too many", len(sealed), maxTicket)
	}
	return sealed, nil
}

// errTicket is the error of a ticket that is not accepted.
var errTicket = errors.New("the ticket is not accepted here")

// open decrypts a ticket.
func (t *tickets) open(sealed string) (*ticket, error) {
	if len(sealed) > maxTicket {
		return nil, fmt.Errorf("%w: it has %d bytes", errTicket, len(sealed))
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || strings.ContainsAny(sealed, "\r\n") || // which the decoder passes over
		len(raw) < chacha20poly1305.NonceSizeX {
		return nil, fmt.Errorf("%w: it is none", errTicket)
	}
	nonce, box := raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:]
	for _, key := range t.keys {
		plain, err := key.Open(nil, nonce, box, t.scope)
		if err != nil {
			continue
		}
		content := new(ticket)
		if err := json.Unmarshal(plain, content); err != nil {
			return nil, fmt.Errorf("%w: %w", errTicket, err)
		}
		return content, nil
	}
	return nil, fmt.Errorf("%w: no key opens it", errTicket)
}

// ticketDoc answers who asks for a ticket.
type ticketDoc struct {
	Ticket  string    `json:"ticket"`
	Expires time.Time `json:"expires"` // of the first connect
}

// ticket gives a ticket to who has another credential.
func (e *endpoint) ticket(w http.ResponseWriter, r *http.Request) error {
	who, err := e.writer(r)
	if err != nil {
		return e.fail(w, err)
	}
	switch {
	case e.access.tickets == nil:
		return e.fail(w, notFound.because("no tickets are given here: tickets is not configured"))
	case who.anonymous():
		return e.fail(w, unauthorized.because("a ticket is given to who has another credential"))
	case !e.access.somewhere(who, doSubscribe):
		return e.fail(w, e.access.refuse(who, doSubscribe, "any channel"))
	}
	if err := ignoreBody(w, r); err != nil {
		return e.fail(w, err)
	}
	content, err := e.access.newTicket(who, r, time.Now())
	if err != nil {
		return e.fail(w, err)
	}
	sealed, err := e.access.tickets.seal(content)
	if err != nil {
		return e.fail(w, err)
	}
	return e.answer(w, ticketDoc{Ticket: sealed, Expires: time.UnixMilli(content.Open).UTC()})
}

// newTicket binds a ticket to its caller, and to the page that asks for it.
func (a *access) newTicket(who caller, r *http.Request, now time.Time) (*ticket, error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: it ends the process instead
	t := &ticket{
		ID: base64.RawURLEncoding.EncodeToString(id), Method: who.method,
		Name: who.name, Proof: a.proof(who), User: who.user, Parent: who.tokenID,
	}
	if origins := r.Header["Origin"]; len(origins) > 0 {
		if t.Origin = strings.ToLower(origins[0]); len(origins) > 1 || t.Origin == "null" {
			return nil, forbidden.because("a page without an origin gets no ticket")
		}
	}
	if a.tickets.own {
		t.Host, t.Port = hostname(r.Host), localPort(r)
	}
	end := now.Add(maxTicketAge)
	if !who.expires.IsZero() && who.expires.Before(end) {
		end = who.expires
	}
	t.End = end.UnixMilli()
	t.Open = min(now.Add(a.tickets.lifetime).UnixMilli(), t.End)
	if !who.issued.IsZero() {
		t.Issued = who.issued.UnixMilli()
	}
	if who.claims != nil {
		var err error
		if t.Claims, err = json.Marshal(who.claims); err != nil {
			return nil, err
		}
	}
	return t, nil
}
