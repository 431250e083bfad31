package client

import (
	"context"
	"errors"
	"time"
)

// Credential is what a request is authenticated with.
type Credential struct {
	// Token is the secret of a bearer or a JSON Web Token, which is sent as
	// Authorization: Bearer.
	Token string
	// Ticket is a ticket of [Client.Ticket], which only opens streams. It is sent with
	// those, and nothing with other requests.
	Ticket string
	// Expires is when another one is asked for. The zero time is when the hub refuses
	// this one.
	Expires time.Time
}

// CredentialFunc returns a credential, such as from the application that signs tokens.
// It must return when ctx ends. It may return the zero Credential for none.
type CredentialFunc func(ctx context.Context) (Credential, error)

// Token is a CredentialFunc for a token that does not change.
func Token(token string) CredentialFunc {
	return func(context.Context) (Credential, error) { return Credential{Token: token}, nil }
}

// early is how long before it expires a credential is renewed.
const early = 10 * time.Second

// credentials holds the newest credential of a Client.
type credentials struct {
	fetch CredentialFunc
	lock  chan struct{} // holds one token while last may be used; a mutex that a context ends
	last  *heldCredential
}

// heldCredential is a credential that was fetched. Its address is which one it is.
type heldCredential struct{ Credential }

func newCredentials(fetch CredentialFunc) credentials {
	return credentials{fetch: fetch, lock: make(chan struct{}, 1)}
}

// get returns the newest credential, or a newer one than refused; nil if the client has
// none.
func (c *credentials) get(ctx context.Context, refused *heldCredential) (*heldCredential, error) {
	if c.fetch == nil {
		return nil, nil
	}
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c.last != nil && c.last != refused && (c.last.Expires.IsZero() || time.Until(c.last.Expires) > early) {
		return c.last, nil
	}
	got, err := c.fetch(ctx)
	if err != nil {
		return nil, &credentialError{err}
	}
	if got.Token != "" && got.Ticket != "" {
		return nil, &credentialError{errors.New("it has a token and a ticket: only one of both can be sent")}
	}
	c.last = &heldCredential{got}
	return c.last, nil
}

// refuse has the next request get a newer credential than one that was refused.
func (c *credentials) refuse(refused *heldCredential) {
	c.lock <- struct{}{}
	defer func() { <-c.lock }()
	if c.last == refused {
		c.last = nil
	}
}

// credentialError is the error of a CredentialFunc.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return "getting a credential: " + e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }
