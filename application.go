package evstream

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
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	josejson "github.com/go-jose/go-jose/v4/json"
	"golang.org/x/sync/singleflight"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// VerifyConfig names an application that is asked who makes a request. It is
// asked where the request has none of the other credentials. An answer 2xx
// allows the request; its JSON body {"user", "claims", "event"} says who the
// caller is, as in a token, and what a stream begins with. 401 and 403 are
// passed on. Any other answer, or none in time, refuses with 503.
type VerifyConfig struct {
	// The URL, which is asked with GET: https, or http to an address of this
	// host or a private one. The method and the URI of the request are in
	// X-Forwarded-Method and X-Forwarded-Uri. Required.
	URL string `json:"url"`

	// How long to wait for the answer. Default: 5s; at most 1m.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long an answer that allows is remembered, for requests that are the
	// same in all that the application is sent. Default: 0, not at all; at
	// most 1h.
	Cache caddy.Duration `json:"cache,omitempty"`

	// The header fields that the application is sent. Default: all of them,
	// but for those about the connection, the body and the cache.
	Forward []string `json:"forward,omitempty"`

	// Allow the URL's name to lead to private addresses. One that is written
	// as an address, or localhost, needs no such word. Caddy's admin endpoint
	// is never asked.
	AllowPrivate bool `json:"allow_private,omitempty"`
}

// Bounds of what an application answers, and of what is remembered of it.
const (
	maxVerdict  = 64 << 10
	maxVerdicts = 10_000
)

// askedMark is the header of the question. A request that has it is one: it is
// refused here, because to ask about it would be to ask without end.
const askedMark = "Evstream-Verify"

// errApplication is the error of an application that says neither yes nor no.
var errApplication = errors.New("the application does not say who it is")

// errNoSuchCaller is the error of a caller that the application does not accept,
// who may have sent nothing at all.
var errNoSuchCaller = errors.New("the application accepts no such caller")

// application asks who makes a request.
type application struct {
	out     *outgoing
	forward []string // nil: all
	timeout time.Duration
	cache   time.Duration
	logger  *slog.Logger
	asking  singleflight.Group // only where answers are remembered

	mu       sync.Mutex // guards verdicts
	verdicts expiring[[sha256.Size]byte, caller]
}

func newApplication(c *VerifyConfig, log *slog.Logger) (*application, error) {
	a := &application{
		timeout: time.Duration(c.Timeout), cache: time.Duration(c.Cache), logger: log,
		verdicts: expiring[[sha256.Size]byte, caller]{limit: maxVerdicts},
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
	a.out, err = newOutgoing(c.URL, c.AllowPrivate, a.timeout)
	return a, err
}

// byApplication asks the application. After a reload it is not asked again: who
// it said then is who it is, as long as it is the one to ask.
func (a *access) byApplication(r *http.Request) (caller, bool, error) {
	if a.application == nil {
		return caller{}, false, nil
	}
	if was, again := askedBefore(r); again {
		if was.method != byApplication || was.source != a.application.name() {
			return caller{}, true, errApplication
		}
		return was, true, nil
	}
	who, err := a.application.ask(r)
	return who, true, err
}

// name tells one application from another.
func (a *application) name() string { return a.out.url.String() }

// ask returns the caller that the application names. One that it names not is
// nobody, and allowed as such.
func (a *application) ask(r *http.Request) (caller, error) {
	question, err := a.question(r)
	if err != nil {
		return caller{}, err
	}
	if a.cache == 0 {
		return a.answer(r.Context(), question)
	}
	key := keyOfQuestion(question)
	if who, ok := a.remembered(key); ok {
		return who, nil
	}
	// Whoever asks first asks for all who ask the same meanwhile, and may leave.
	who, err, _ := a.asking.Do(string(key[:]), func() (any, error) {
		who, err := a.answer(context.WithoutCancel(r.Context()), question)
		if err == nil {
			a.remember(key, who)
		}
		return who, err
	})
	return who.(caller), err
}

func (a *application) remembered(key [sha256.Size]byte) (caller, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.verdicts.get(key, time.Now())
}

// remember keeps an answer, if there is room; without, the next asks again.
func (a *application) remember(key [sha256.Size]byte, who caller) {
	now := time.Now()
	until := now.Add(a.cache)
	if !who.expires.IsZero() && who.expires.Before(until) {
		until = who.expires
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.verdicts.put(key, who, until, now)
}

// notForwarded are the fields that are about the connection, the body, the
// cache, or what a proxy says.
var notForwarded = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Forwarded",
	"Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive",
	"Last-Event-Id", "Proxy-Authorization", "Proxy-Connection", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// question makes what the application is sent.
func (a *application) question(r *http.Request) (*http.Request, error) {
	if r.Header[askedMark] != nil {
		return nil, forbidden.because("the request is a question of verify: the application that it asks must not lie behind the hub itself")
	}
	q, err := a.out.request(r.Context())
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
	q.Header.Set("X-Forwarded-For", clientAddress(r))
	q.Header.Set("X-Forwarded-Host", r.Host)
	q.Header.Set("X-Forwarded-Method", r.Method)
	q.Header.Set("X-Forwarded-Proto", scheme)
	q.Header.Set("X-Forwarded-Uri", r.URL.RequestURI())
	return q, nil
}

// keyOfQuestion tells questions apart by all that the application is sent. Each
// part is preceded by its length: no two lists of parts have one key, wherever
// one part ends and the next begins.
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

// answer asks, and reads the answer.
func (a *application) answer(ctx context.Context, question *http.Request) (caller, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	who, err := a.read(question.WithContext(ctx))
	if _, told := errors.AsType[*problem](err); err != nil && !told {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			a.logger.Error("asking the application who makes a request", slog.String("url", a.name()), slog.Any("error", err))
		}
		return caller{}, fmt.Errorf("%w: %w", errApplication, err)
	}
	return who, err
}

func (a *application) read(question *http.Request) (caller, error) {
	now := time.Now()
	resp, err := a.out.client.Do(question)
	if err != nil {
		return caller{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxVerdict+1))
	if err != nil {
		return caller{}, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return caller{}, unauthorized.because("%w", errNoSuchCaller)
	case resp.StatusCode == http.StatusForbidden:
		return caller{}, forbidden.because("the application does not allow it")
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return caller{}, fmt.Errorf("the answer is %s", resp.Status)
	case len(body) > maxVerdict:
		return caller{}, fmt.Errorf("the answer has more than %d bytes", maxVerdict)
	}
	who, err := readVerdict(resp.Header.Get("Content-Type"), body, now)
	who.source = a.name()
	who.ambient = !bearing(question)
	return who, err
}

// bearing reports whether a request has a bearer, which a browser does not send
// unasked, and nothing that it does.
func bearing(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && r.Header["Cookie"] == nil
}

// readVerdict reads the body of an answer that allows. An empty one says
// nothing of who it is.
func readVerdict(contentType string, body []byte, now time.Time) (caller, error) {
	who := caller{method: byApplication, issued: now}
	if len(body) == 0 {
		return who, nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		return caller{}, fmt.Errorf("the answer is %q, not application/json", clip(contentType))
	}
	var verdict struct {
		User   string          `json:"user"`
		Claims json.RawMessage `json:"claims"`
		Event  json.RawMessage `json:"event"`
	}
	if !utf8.Valid(body) {
		return caller{}, errors.New("the answer is not UTF-8")
	}
	// As claims are read: names by their case, and none twice.
	if err := josejson.Unmarshal(body, &verdict); err != nil {
		return caller{}, fmt.Errorf("reading the answer: %w", err)
	}
	who.user = verdict.User
	if given(verdict.Claims) {
		c, err := readClaims(verdict.Claims)
		if err != nil {
			return caller{}, err
		}
		if err := who.take(c); err != nil {
			return caller{}, err
		}
		who.tokenID, who.issued = c.std.ID, now // it was asked just now
		if !who.expires.IsZero() && !now.Before(who.expires) {
			return caller{}, unauthorized.because("%w", errExpired)
		}
	}
	if given(verdict.Event) {
		event, err := readWelcome(verdict.Event)
		if err != nil {
			return caller{}, errors.New("the event: " + err.Error()) // the application's fault, not the client's
		}
		who.welcome = event
	}
	return who, nil
}

// given reports whether a member of a JSON object is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// readWelcome reads an event: {"event", "data", "retry"}, as _publish takes it.
// It has no id, because no history has it: a client could not come back to it.
func readWelcome(raw json.RawMessage) (*sse.Event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, errors.New("it is not an object")
	}
	for name := range members {
		if name != "event" && name != "data" && name != "retry" {
			return nil, fmt.Errorf("it has the member %q, and may have event, data and retry", clip(name))
		}
	}
	op, err := itemOp(members)
	if err == nil {
		err = broker.CheckEvent(&op.Event)
	}
	return &op.Event, err
}
