package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/evstream/caddy-evstream/access"
)

// Open makes an Authenticator, which must be closed. It fetches nothing. c must not
// be changed afterwards.
func Open(c *Config, deps Deps) (*Authenticator, error) {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{deps: deps, cookie: c.Cookie, parameter: c.QueryParameter, outer: c.Outer}
	if err := a.open(c); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Authenticator) open(c *Config) (err error) {
	if err := c.Check(nil); err != nil {
		return err
	}
	if a.bearers, err = readBearers(c.Bearers); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Bearers)) {
		if n := len(c.Bearers[name]); n < minSecret {
			a.deps.Logger.Warn("the secret of a bearer is short, and could be guessed; openssl rand -hex 32 makes one",
				slog.String("bearer", name), slog.Int("bytes", n), slog.Int("at_least", minSecret))
		}
	}
	if c.JWT != nil {
		if a.tokens, err = a.openTokens(c.JWT); err != nil {
			return fmt.Errorf("jwt: %w", err)
		}
	}
	if a.parameter != "" {
		a.deps.Logger.Warn("credentials are accepted in the query, where access logs, histories and other sites may get to see them; a ticket or a cookie would be safer",
			slog.String("parameter", a.parameter))
	}
	if c.JWT != nil && c.JWT.NoExpiry {
		a.deps.Logger.Warn("tokens are accepted that never expire")
	}
	if c.Tickets != nil {
		if a.tickets, err = newTickets(c.Tickets, &a.deps); err != nil {
			return fmt.Errorf("tickets: %w", err)
		}
	}
	if c.Verify != nil {
		if a.application, err = newApplication(c.Verify, &a.deps); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		a.release = append(a.release, a.application.out.CloseIdle)
	}
	return nil
}

// Close gives back the keys that are shared, and closes idle connections. It may be
// called more than once, by one goroutine at a time. Requests that are still being
// served may find no keys.
func (a *Authenticator) Close() {
	for _, release := range a.release {
		release()
	}
	a.release = nil
}

func (a *Authenticator) openTokens(c *JWT) (*tokens, error) {
	t, err := c.tokens()
	if err != nil {
		return nil, err
	}
	if c.JWKS != "" {
		if a.deps.KeySets == nil {
			a.deps.KeySets = NewKeySets(a.deps.Forbid, a.deps.Logger)
		}
		var release func()
		if t.set, release, err = a.deps.KeySets.open(c.JWKS, c.AllowPrivate); err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		a.release = append(a.release, release)
	}
	return t, nil
}

// minSecret is how many bytes a bearer's secret has if it is not warned of.
const minSecret = 16

// bearer is a named secret, of which only the digest is held: comparing
// digests takes the same time whatever the secrets' lengths are.
type bearer struct {
	name   string
	digest [sha256.Size]byte
}

// CheckBearers reports the first name or secret that no bearer can have.
func CheckBearers(bearers map[string]string) error {
	_, err := readBearers(bearers)
	return err
}

func readBearers(bearers map[string]string) ([]bearer, error) {
	var list []bearer
	for _, name := range slices.Sorted(maps.Keys(bearers)) {
		secret := bearers[name]
		b := bearer{name: name, digest: sha256.Sum256([]byte(secret))}
		switch {
		case name == "" || strings.ContainsAny(name, " \t\r\n@{}"):
			return nil, fmt.Errorf("%q cannot name a bearer: a name has no space and none of @ { }", name)
		case name == access.Anyone || name == access.AnyUser || name == access.HasClaim:
			return nil, fmt.Errorf("%q cannot name a bearer: in a rule it has a meaning of its own", name)
		case secret == "":
			return nil, fmt.Errorf("the secret of bearer %q is empty", name)
		case strings.TrimSpace(secret) != secret:
			return nil, fmt.Errorf("the secret of bearer %q begins or ends with white space, which no request could send", name)
		}
		for _, other := range list {
			if other.digest == b.digest {
				return nil, fmt.Errorf("the bearers %q and %q have the same secret, so they could not be told apart", other.name, name)
			}
		}
		list = append(list, b)
	}
	return list, nil
}

// NewTicketKey makes a random key for Deps.TicketKey.
func NewTicketKey() []byte {
	key := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(key) // it never fails: it ends the process instead
	return key
}
