package auth

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
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/problem"
)

// Tickets turns on tickets: a caller with any other credential gets a
// short-lived one for the query of a stream's URL, which is all that an
// EventSource can send.
type Tickets struct {
	// Lifetime is how long a ticket is good for its first use: from 1s to 1h.
	// Default: 1m.
	Lifetime time.Duration
	// Keys are secrets of at least 32 bytes, at most 4. Tickets are made with the
	// first and accepted with any, so that it can be replaced. Handlers and nodes
	// with the same secret and the same Deps.Scope accept each other's tickets.
	// Default: Deps.TicketKey, whose tickets are only good at the host and port that
	// gave them.
	Keys []string
}

// How long tickets last, and how large they get.
const (
	ticketLifetime = time.Minute
	maxTicketAge   = 24 * time.Hour // for reconnects
	maxTicket      = 4 << 10        // bytes, as it stands in a URL
)

// tickets makes and opens tickets. They are encrypted, because they stand in
// URLs, and so in logs. It does not change once it is made.
type tickets struct {
	lifetime time.Duration
	keys     []cipher.AEAD // the first makes, all open
	own      bool          // the key is Deps.TicketKey
	scope    []byte        // of Deps.Scope
}

// ticket is what a ticket holds. Times are in milliseconds.
type ticket struct {
	ID     string          `json:"i"`
	Open   int64           `json:"o"`           // the first use must be before
	End    int64           `json:"e"`           // later uses must be before
	Origin string          `json:"r,omitempty"` // of the page that asked for it
	Host   string          `json:"h,omitempty"` // where it was asked for; only with Deps.TicketKey
	Port   string          `json:"p,omitempty"`
	Method access.Method   `json:"m"`
	Name   string          `json:"n,omitempty"` // a named bearer's
	Proof  []byte          `json:"f,omitempty"` // of what the caller was identified with; see proof
	User   string          `json:"u,omitempty"`
	Claims json.RawMessage `json:"c,omitempty"`
	Parent string          `json:"t,omitempty"`
	Issued int64           `json:"s,omitempty"`
}

// Check reports the first impossible value. Keys are not read.
func (c *Tickets) Check() error {
	_, err := c.settings()
	return err
}

// settings reads all but the keys.
func (c *Tickets) settings() (*tickets, error) {
	t := &tickets{lifetime: c.Lifetime}
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

func newTickets(c *Tickets, deps *Deps) (*tickets, error) {
	if deps.TicketStore == nil {
		return nil, errors.New("there is no store of used tickets")
	}
	t, err := c.settings()
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	if t.own = len(c.Keys) == 0; t.own {
		if deps.TicketKey == nil {
			deps.TicketKey = NewTicketKey()
		}
		keys = append(keys, deps.TicketKey)
	}
	for i, secret := range c.Keys {
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
	t.scope = scopeOf(deps.Scope...)
	return t, nil
}

// scopeOf encodes a scope. Each part follows its length, so that no two scopes have
// the same encoding.
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
		return "", problem.TooLarge.Because("the ticket would have %d bytes, at most %d are allowed: the claims are too many", len(sealed), maxTicket)
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
		return nil, fmt.Errorf("%w: it cannot be decoded", errTicket)
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

// GivesTickets reports whether tickets are configured.
func (a *Authenticator) GivesTickets() bool { return a.tickets != nil }

// NewTicket makes a ticket for who, bound to the page that r comes from. open is when
// it must have been used for the first time. GivesTickets must be true. An error that
// the client is to be told is a *problem.Error.
func (a *Authenticator) NewTicket(who *access.Caller, r *http.Request, now time.Time) (sealed string, open time.Time, err error) {
	content, err := a.newTicket(who, r, now)
	if err != nil {
		return "", open, err
	}
	sealed, err = a.tickets.seal(content)
	return sealed, time.UnixMilli(content.Open).UTC(), err
}

// newTicket makes the content of a ticket.
func (a *Authenticator) newTicket(who *access.Caller, r *http.Request, now time.Time) (*ticket, error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: it ends the process instead
	t := &ticket{
		ID: base64.RawURLEncoding.EncodeToString(id), Method: who.Method,
		Name: who.Name, Proof: a.proof(who), User: who.User, Parent: who.TokenID,
	}
	if origins := r.Header["Origin"]; len(origins) > 0 {
		if t.Origin = strings.ToLower(origins[0]); len(origins) > 1 || t.Origin == "null" {
			return nil, problem.Forbidden.Because("a page without an origin gets no ticket")
		}
	}
	if a.tickets.own {
		t.Host, t.Port = hostname(r.Host), localPort(r)
	}
	end := now.Add(maxTicketAge)
	if !who.Expires.IsZero() && who.Expires.Before(end) {
		end = who.Expires
	}
	t.End = end.UnixMilli()
	t.Open = min(now.Add(a.tickets.lifetime).UnixMilli(), t.End)
	if !who.Issued.IsZero() {
		t.Issued = who.Issued.UnixMilli()
	}
	if who.Claims != nil {
		var err error
		if t.Claims, err = json.Marshal(who.Claims); err != nil {
			return nil, err
		}
	}
	return t, nil
}
