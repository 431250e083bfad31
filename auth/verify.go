package auth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	josejson "github.com/go-jose/go-jose/v4/json"
	"golang.org/x/sync/singleflight"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/internal/safehttp"
	"github.com/evstream/caddy-evstream/internal/ttlmap"
	"github.com/evstream/caddy-evstream/problem"
)

// Verify names an application that is asked who makes a request. It is asked
// where the request has none of the other credentials. An answer 2xx allows the
// request; its JSON body {"user", "claims", "event"} says who the caller is, as
// in a token, and what a stream begins with. 401 and 403 are passed on. Any other
// answer, or none in time, refuses with 503.
type Verify struct {
	// URL is asked with GET: https, or http to an address of this host or a
	// private one. Required.
	URL string
	// Timeout is how long to wait for the answer. Default: 5s; at most 1m.
	Timeout time.Duration
	// Cache is how long an answer that allows is remembered, for requests that
	// are the same in all that the application is sent: at most 1h. Default: not
	// at all.
	Cache time.Duration
	// Forward names the header fields that the application is sent. Default: all
	// of them, but for those about the connection, the body and the cache.
	Forward []string
	// AllowPrivate allows the URL's name to lead to private addresses.
	AllowPrivate bool
}

// Check reports the first impossible value.
func (c *Verify) Check() error {
	_, err := newApplication(c, new(Deps))
	return err
}

// Bounds of an answer, in bytes, and of how many are remembered.
const (
	maxVerdict  = 64 << 10
	maxVerdicts = 10_000
	// maxVerdictsOfOne is how many of one caller are: each request that differs has
	// an answer of its own.
	maxVerdictsOfOne = maxVerdicts / 100
)

// askedMark is a header of what the application is sent. A request that has it is
// refused: asking about it would never end.
const askedMark = "Evstream-Verify"

// ErrNoAnswer says that the application gave no answer that could be read, or none
// in time.
var ErrNoAnswer = errkind.New("unavailable", "identity", "the application gave no usable answer")

// errNoSuchCaller is the error where the application answers 401. The request may
// have had no credential at all.
var errNoSuchCaller = errors.New("the application does not accept the caller")

// application asks who makes a request.
type application struct {
	out     *safehttp.Client
	forward []string // nil: all
	timeout time.Duration
	cache   time.Duration
	deps    *Deps
	asking  singleflight.Group // only where answers are remembered

	mu       sync.Mutex // guards verdicts
	verdicts ttlmap.Shared[[sha256.Size]byte, *access.Caller]
}

func newApplication(c *Verify, deps *Deps) (*application, error) {
	a := &application{
		timeout: c.Timeout, cache: c.Cache, deps: deps,
		verdicts: ttlmap.Shared[[sha256.Size]byte, *access.Caller]{Limit: maxVerdicts, Share: maxVerdictsOfOne},
	}
	switch {
	case c.Timeout == 0:
		a.timeout = 5 * time.Second
	case a.timeout < time.Millisecond || a.timeout > time.Minute:
		return nil, fmt.Errorf("timeout must be from 1ms to 1m, not %s", a.timeout)
	}
	if a.cache < 0 || a.cache > time.Hour {
		return nil, fmt.Errorf("cache must be at most 1h, not %s", a.cache)
	}
	for _, name := range c.Forward {
		if !isToken(name) {
			return nil, fmt.Errorf("forward: %q is not the name of a header", name)
		}
		a.forward = append(a.forward, http.CanonicalHeaderKey(name))
	}
	slices.Sort(a.forward)
	var err error
	a.out, err = safehttp.New(c.URL, safehttp.Options{AllowPrivate: c.AllowPrivate, Timeout: a.timeout, Forbid: deps.Forbid})
	return a, err
}

// byApplication asks the application. After a reload it is not asked again: as long
// as it is the same application, its answer of before holds.
func (a *Authenticator) byApplication(r *http.Request) (*access.Caller, bool, error) {
	if a.application == nil {
		return nil, false, nil
	}
	if was := Previous(r); was != nil {
		if was.Method != access.ByApplication || was.Source != a.application.name() {
			return nil, true, ErrNoAnswer
		}
		return was, true, nil
	}
	who, err := a.application.ask(r)
	return who, true, err
}

// name tells one application from another.
func (a *application) name() string { return a.out.URL.String() }

// ask returns the caller that the application names. If it allows the request and
// names none, the caller has no user.
func (a *application) ask(r *http.Request) (*access.Caller, error) {
	question, err := a.question(r)
	if err != nil {
		return nil, err
	}
	if a.cache == 0 {
		return a.answer(r.Context(), question)
	}
	key := keyOfQuestion(question)
	if who, ok := a.remembered(key); ok {
		return who, nil
	}
	// Equal questions at the same time are asked once. The client whose request is
	// the first may leave: the others wait for the same answer.
	answer, err, _ := a.asking.Do(string(key[:]), func() (any, error) {
		who, err := a.answer(context.WithoutCancel(r.Context()), question)
		if err == nil {
			a.remember(key, who, a.clientIP(r))
		}
		return who, err
	})
	who, _ := answer.(*access.Caller)
	return who, err
}

func (a *application) remembered(key [sha256.Size]byte) (*access.Caller, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.verdicts.Get(key, time.Now())
}

// remember keeps an answer for as long as Cache and the credential last. It counts in
// the share of the caller, or of the client's address where the caller is nobody, whose
// own oldest answers make room. Where there is none, it is not kept.
func (a *application) remember(key [sha256.Size]byte, who *access.Caller, client string) {
	owner := who.Identity()
	if owner == "" {
		owner = "address " + network(client)
	}
	now := time.Now()
	until := now.Add(a.cache)
	if !who.Expires.IsZero() && who.Expires.Before(until) {
		until = who.Expires
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.verdicts.Set(key, owner, who, until, now)
}

// network is the address of a client, or the /64 network of an IPv6 address: whoever
// has one host in it has all the others.
func network(client string) string {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return client
	}
	if address = address.Unmap().WithZone(""); address.Is6() {
		return netip.PrefixFrom(address, 64).Masked().String()
	}
	return address.String()
}

// notForwarded are the header fields about the connection, the body, the cache and
// proxies, which the application is not sent.
var notForwarded = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Forwarded",
	"Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive",
	"Last-Event-Id", "Proxy-Authorization", "Proxy-Connection", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// question makes the request that the application is sent.
func (a *application) question(r *http.Request) (*http.Request, error) {
	if r.Header[askedMark] != nil {
		return nil, problem.Forbidden.Because("the request is a question of verify: the application that it asks must not lie behind the hub itself")
	}
	q, err := a.out.Request(r.Context())
	if err != nil {
		return nil, err
	}
	connection := strings.ToLower(strings.Join(r.Header["Connection"], ","))
	for name, values := range r.Header {
		// Applications behind CGI and the like cannot tell _ from -.
		read := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		switch {
		case slices.Contains(notForwarded, read), strings.HasPrefix(read, "X-Forwarded-"),
			a.forward != nil && !slices.Contains(a.forward, name),
			connection != "" && slices.Contains(strings.FieldsFunc(connection, func(c rune) bool { return c == ',' || c == ' ' }), strings.ToLower(name)):
			continue
		}
		q.Header[name] = slices.Clone(values)
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	q.Header.Set("Accept", "application/json")
	q.Header.Set(askedMark, "1")
	q.Header.Set("X-Forwarded-For", a.clientIP(r))
	q.Header.Set("X-Forwarded-Host", r.Host)
	q.Header.Set("X-Forwarded-Method", r.Method)
	q.Header.Set("X-Forwarded-Proto", scheme)
	q.Header.Set("X-Forwarded-Uri", r.URL.RequestURI())
	return q, nil
}

// clientIP is the address of the client: that of Deps.ClientIP, or else of the
// connection.
func (a *application) clientIP(r *http.Request) string {
	if a.deps.ClientIP != nil {
		return a.deps.ClientIP(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// keyOfQuestion is a digest of all that the application is sent. Each part follows
// its length: no two questions have the same key because one part ends where another
// begins.
func keyOfQuestion(q *http.Request) [sha256.Size]byte {
	h := sha256.New()
	part := func(s string) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		_, _ = h.Write(length[:])
		_, _ = io.WriteString(h, s)
	}
	names := make([]string, 0, len(q.Header))
	for name := range q.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		part(name)
		part(fmt.Sprint(len(q.Header[name])))
		for _, value := range q.Header[name] {
			part(value)
		}
	}
	var key [sha256.Size]byte
	h.Sum(key[:0])
	return key
}

// answer asks the application, and logs where it gives no answer.
func (a *application) answer(ctx context.Context, question *http.Request) (*access.Caller, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	who, err := a.read(question.WithContext(ctx))
	if _, told := errors.AsType[*problem.Error](err); err != nil && !told {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			a.deps.Logger.Error("asking the application who makes a request", slog.String("url", a.name()), slog.Any("error", err))
		}
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return who, err
}

func (a *application) read(question *http.Request) (*access.Caller, error) {
	now := time.Now()
	resp, err := a.out.Do(question)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxVerdict+1))
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, problem.Unauthorized.Because("%w", errNoSuchCaller)
	case resp.StatusCode == http.StatusForbidden:
		return nil, problem.Forbidden.Because("the application does not allow it")
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	case len(body) > maxVerdict:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxVerdict)
	}
	who, err := a.readVerdict(resp.Header.Get("Content-Type"), body, now)
	if err != nil {
		return nil, err
	}
	who.Source = a.name()
	who.Ambient = !bearing(question)
	return who, nil
}

// bearing reports whether a request has a bearer and no cookie: a browser does not
// send that unasked.
func bearing(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && r.Header["Cookie"] == nil
}

// readVerdict reads the body of an answer that allows the request. An empty body
// names nobody.
func (a *application) readVerdict(contentType string, body []byte, now time.Time) (*access.Caller, error) {
	who := &access.Caller{Method: access.ByApplication, Issued: now}
	if len(body) == 0 {
		return who, nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		return nil, fmt.Errorf("the answer is %q, not application/json", problem.Clip(contentType))
	}
	var verdict struct {
		User   string          `json:"user"`
		Claims json.RawMessage `json:"claims"`
		Event  json.RawMessage `json:"event"`
	}
	if !utf8.Valid(body) {
		return nil, errors.New("the answer is not UTF-8")
	}
	// As claims are read: names by their case, and none twice.
	if err := josejson.Unmarshal(body, &verdict); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	who.User = verdict.User
	if given(verdict.Claims) {
		c, err := readClaims(verdict.Claims)
		if err != nil {
			return nil, err
		}
		if err := c.setOn(who); err != nil {
			return nil, err
		}
		who.TokenID, who.Issued = c.std.ID, now // it was asked just now
		if !who.Expires.IsZero() && !now.Before(who.Expires) {
			return nil, problem.Unauthorized.Because("%w", access.ErrExpired)
		}
	}
	if given(verdict.Event) {
		if a.deps.ReadEvent == nil {
			return nil, errors.New("the event: none is read here")
		}
		event, err := a.deps.ReadEvent(verdict.Event)
		if err != nil {
			return nil, errors.New("the event: " + err.Error()) // the application's fault, not the client's
		}
		who.Event = event
	}
	return who, nil
}

// given reports whether a member of a JSON object is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
