package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	mathrand "math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// call is a request that is answered at once.
type call struct {
	method, path string // the path is escaped
	query        url.Values
	header       http.Header // may be nil
	body         []byte
	// safe: to do it twice is the same as once. key: with this idempotency key it is.
	safe bool
	key  string
	// empty: there is no document in the answer.
	empty bool
}

// answer is an answer that is no error.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// maxAnswer bounds the body of an answer.
const maxAnswer = 64 << 20

// keyed gives a write the caller's idempotency key, or one of its own.
func (c *Client) keyed(key string) string {
	if key == "" && !c.opts.NoKeys {
		return rand.Text()
	}
	return key
}

// send sends a request until it is answered, for as many attempts as there may be. The
// document is decoded into doc, if that is not nil.
func (c *Client) send(ctx context.Context, call call, doc any) (*answer, error) {
	var (
		refused *heldCredential
		unknown bool // an attempt before may have been done
	)
	for attempt := 1; ; attempt++ {
		got, used, err := c.try(ctx, &call, refused)
		if err == nil && doc != nil {
			if err := json.Unmarshal(got.body, doc); err != nil {
				return nil, fmt.Errorf("%s: the answer is not the document of a hub: %w", c.base.Host, err)
			}
		}
		if err == nil {
			return got, nil
		}
		e, answered := errors.AsType[*Error](err)
		unknown = unknown || answered && e.unknown || !answered && used.wrote
		if answered && e.Status == http.StatusUnauthorized && refused == nil && used.credential != nil {
			refused = used.credential
			attempt-- // it was not tried with a good one yet
			continue
		}
		again := used.asked && (!answered || e.Temporary()) && (call.safe || call.key != "" || !unknown)
		if !again || attempt >= c.opts.Attempts || ctx.Err() != nil {
			return nil, outcome(err, unknown && !call.safe, call.key)
		}
		wait := c.backoff(attempt)
		if answered {
			wait = max(wait, e.RetryAfter)
		}
		if ended := sleep(ctx, wait); ended != nil {
			return nil, outcome(fmt.Errorf("%w; the last attempt: %w", ended, err), unknown && !call.safe, call.key)
		}
	}
}

// outcome is the error of a request after all attempts.
func outcome(err error, unknown bool, key string) error {
	if unknown {
		return &UnknownError{Key: key, Err: err}
	}
	return err
}

// usage says what an attempt has used.
type usage struct {
	credential *heldCredential
	asked      bool // there was a credential, and the request was made
	wrote      bool // the server may have got it
}

// try sends a request once.
func (c *Client) try(ctx context.Context, call *call, refused *heldCredential) (*answer, usage, error) {
	var used usage
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	credential, err := c.creds.get(ctx, refused)
	if err != nil {
		return nil, used, err
	}
	used.credential = credential
	r, err := http.NewRequestWithContext(ctx, call.method, c.url(call.path, call.query).String(), bytes.NewReader(call.body))
	if err != nil {
		return nil, used, err
	}
	maps.Copy(r.Header, call.header)
	if call.key != "" {
		r.Header.Set("Idempotency-Key", call.key)
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	if credential != nil && credential.Token != "" {
		r.Header.Set("Authorization", "Bearer "+credential.Token)
	}
	used.asked = true
	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	resp, err := c.http.Do(r.WithContext(httptrace.WithClientTrace(ctx, trace)))
	used.wrote = wrote.Load()
	if err != nil {
		return nil, used, plainly(err, r.URL)
	}
	defer resp.Body.Close()
	got, err := c.read(resp, call.empty)
	return got, used, err
}

// read reads an answer. The error is an *Error if it is one.
func (c *Client) read(resp *http.Response, empty bool) (*answer, error) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, errorOf(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: reading the answer: %w", resp.Request.URL.Host, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", resp.Request.URL.Host, maxAnswer)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if !empty && media != "application/json" || empty && resp.StatusCode != http.StatusNoContent {
		// A server that answers everything, such as a single-page application.
		return nil, notHub(resp, media, body)
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// notHub is the error of an answer that is none of a hub's, but no error either.
func notHub(resp *http.Response, media string, body []byte) *Error {
	u := resp.Request.URL
	return &Error{Status: resp.StatusCode, Detail: describe(media, body), from: u.Scheme + "://" + u.Host}
}

// backoff is how long is waited after so many failures in a row.
func (c *Client) backoff(failures int) time.Duration {
	d := c.opts.MaxBackoff
	if shift := failures - 1; shift < bits.LeadingZeros64(uint64(c.opts.MinBackoff))-1 {
		d = min(d, c.opts.MinBackoff<<max(shift, 0))
	}
	return jitter(d)
}

// jitter is a random time between half of d and d, so that many clients do not come back
// at the same time.
func jitter(d time.Duration) time.Duration { return d/2 + mathrand.N(d/2+1) } //nolint:gosec // it spreads load and guards nothing

// sleep waits, or returns why ctx has ended.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// etag is a version as a condition has it.
func etag(version string) string {
	if version == "*" || strings.HasPrefix(version, `"`) {
		return version
	}
	return `"` + version + `"`
}
