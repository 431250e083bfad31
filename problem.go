package evstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// problemKind is a kind of error answer. Its place in problemKinds gives the
// status and the type, which clients may rely on.
type problemKind uint8

const (
	badPath problemKind = iota
	badName
	badQuery
	badEvent
	badBody
	badKey
	badState
	badPatch
	badCondition
	tooManyChannels
	unauthorized
	forbidden
	crossOrigin
	notFound
	noState
	noSession
	badMethod
	notAcceptable
	timedOut
	conflict
	mismatch
	tooLarge
	badMedia
	keyReused
	unprocessable
	tooManyFromAddress
	tooManyOfUser
	connectRate
	publishRate
	publishBytes
	badType
	badSchema
	overloaded
	contended
	stateFull
	unavailable
	uncertain
	internal
)

// problemURN precedes the name of every problem type.
const problemURN = "urn:evstream:problem:"

// problemKinds is the list of what can go wrong. A name, once released, keeps
// its meaning.
var problemKinds = [...]struct {
	status      int
	name, title string
}{
	badPath:            {400, "bad-path", "The path cannot be read"},
	badName:            {400, "bad-channel", "Not the name of a channel"},
	badQuery:           {400, "bad-parameter", "A parameter cannot be used"},
	badEvent:           {400, "bad-event", "Not an event"},
	badBody:            {400, "bad-body", "The body cannot be read"},
	badKey:             {400, "bad-key", "Not an idempotency key"},
	badState:           {400, "bad-state", "Not a value"},
	badPatch:           {400, "bad-patch", "Not a patch"},
	badCondition:       {400, "bad-precondition", "Not a precondition"},
	tooManyChannels:    {400, "too-many-channels", "Too many channels for one stream"},
	unauthorized:       {401, "unauthorized", "Credentials are needed"},
	forbidden:          {403, "forbidden", "Not allowed"},
	crossOrigin:        {403, "cross-origin", "Not allowed from this origin"},
	notFound:           {404, "not-found", "There is no such thing"},
	noState:            {404, "no-state", "The channel has no state"},
	noSession:          {404, "no-session", "There is no such session"},
	badMethod:          {405, "bad-method", "The method is not served here"},
	notAcceptable:      {406, "not-acceptable", "No acceptable answer"},
	timedOut:           {408, "timeout", "The request did not arrive in time"},
	conflict:           {409, "conflict", "The change does not fit the value"},
	mismatch:           {412, "precondition-failed", "The value is not what the request expects"},
	tooLarge:           {413, "too-large", "Too large"},
	badMedia:           {415, "bad-media", "The body's encoding is not served"},
	keyReused:          {422, "key-reused", "The idempotency key was used before"},
	unprocessable:      {422, "unprocessable", "The value is over a bound"},
	tooManyFromAddress: {429, "too-many-connections", "Too many streams from one address"},
	tooManyOfUser:      {429, "too-many-user-connections", "Too many streams of one user"},
	connectRate:        {429, "connect-rate", "Too many new streams from one address"},
	publishRate:        {429, "publish-rate", "Too many events"},
	publishBytes:       {429, "publish-bytes", "Too much data"},
	badType:            {422, "event-type", "The channel does not take that type of event"},
	badSchema:          {422, "schema", "The data does not fit the channel's schema"},
	overloaded:         {503, "overloaded", "A limit is reached"},
	contended:          {503, "contended", "Others write the value at the same time"},
	stateFull:          {507, "state-full", "There is no room for the value"},
	unavailable:        {503, "unavailable", "Not now"},
	uncertain:          {503, "uncertain", "The outcome is unknown"},
	internal:           {500, "internal", "The hub failed"},
}

// problem is an error that a client is told: RFC 9457.
type problem struct {
	kind   problemKind
	detail string
	cause  error  // nil where there is nothing beneath
	allow  string // badMethod: what is allowed

	pointer    *string // badSchema, and of patches: where in the data, as RFC 6901 spells it
	credential bool    // a credential was sent, and is not accepted

	// progress is how far a body of many events was published before the
	// problem; nil where that is no question.
	progress *progress
	// operation is that of a patch that failed, from 0; pointer is where.
	operation *int
}

// progress tells what of a body was published, and where it ended.
type progress struct {
	published int
	last      broker.ID
	line      int // 1-based line of the body, 0: none
	event     int // 1-based event of the body, 0: none
}

// because makes a problem of kind k, of what fmt.Errorf makes of its arguments.
func (k problemKind) because(format string, args ...any) *problem {
	err := fmt.Errorf(format, args...)
	return &problem{kind: k, detail: err.Error(), cause: errors.Unwrap(err)}
}

func (p *problem) Error() string { return p.detail }

// Unwrap is for errors.Is.
func (p *problem) Unwrap() error { return p.cause }

func (p *problem) status() int { return problemKinds[p.kind].status }

// at returns p with what was published before it.
func (p *problem) at(pr progress) *problem {
	located := *p
	located.progress = &pr
	return &located
}

// MarshalJSON implements json.Marshaler: the problem document.
func (p *problem) MarshalJSON() ([]byte, error) {
	k := problemKinds[p.kind]
	doc := struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		Outcome   string `json:"outcome,omitempty"`
		Published *int   `json:"published,omitempty"`
		ID        string `json:"id,omitempty"`
		Line      int    `json:"line,omitempty"`
		Event     int    `json:"event,omitempty"`
		Operation *int   `json:"operation,omitempty"`

		Pointer *string `json:"pointer,omitempty"`
	}{Type: problemURN + k.name, Title: k.title, Status: k.status, Detail: p.detail}
	doc.Pointer = p.pointer
	if p.kind == uncertain {
		doc.Outcome = "unknown"
	}
	if pr := p.progress; pr != nil {
		doc.Published, doc.Line, doc.Event = &pr.published, pr.line, pr.event
		if !pr.last.IsZero() {
			doc.ID = pr.last.String()
		}
	}
	doc.Operation = p.operation
	return marshal(doc)
}

// marshal is json.Marshal without the escapes that are meant for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// logSentinels are those of a log that fails. What made it fail, such as the
// address that did not answer, is no client's business.
var logSentinels = []struct {
	err  error
	kind problemKind
}{
	{broker.ErrUncertain, uncertain},
	{broker.ErrLoading, unavailable},
	{broker.ErrUnavailable, unavailable},
}

// sentinels gives the errors of the floors below their kinds. Where two match
// one error, the first decides.
var sentinels = []struct {
	err  error
	kind problemKind
}{
	{broker.ErrName, badName},
	{sse.ErrType, badEvent},
	{sse.ErrID, badEvent},
	{sse.ErrData, badEvent},
	{sse.ErrRetry, badEvent},
	{broker.ErrReservedType, badEvent},
	{broker.ErrReservedID, badEvent},
	{broker.ErrEventTooLarge, tooLarge},
	{broker.ErrKeyReused, keyReused},
	{broker.ErrStateName, badName},
	{broker.ErrStateTooLarge, tooLarge},
	{broker.ErrStateMismatch, mismatch},
	{broker.ErrStateFull, stateFull},
	{broker.ErrNoSession, noSession},
	{broker.ErrContended, contended},
	{jsonvalue.ErrBounds, unprocessable},
	{jsonvalue.ErrSyntax, badState},
	{broker.ErrNoChannels, badQuery},
	{broker.ErrTooManySubscriptionChannels, tooManyChannels},
	{broker.ErrTooManySubscriptionPatterns, tooManyChannels},
	{broker.ErrTooManySubscriptions, overloaded},
	{broker.ErrTooManySubscribers, overloaded},
	{broker.ErrTooManyPatterns, overloaded},
	{broker.ErrTooManyChannels, overloaded},
	{broker.ErrTooManyKeys, overloaded},
	{broker.ErrClosed, unavailable},
	{errTooManyFromAddress, tooManyFromAddress},
	{errTooManyOfUser, tooManyOfUser},
	{errConnectRate, connectRate},
	{errPublishRate, publishRate},
	{errPublishBytes, publishBytes},
	{errExiting, unavailable},
	{errReplaced, unavailable},
	{errRevoked, unauthorized},
	{errExpired, unauthorized},
	{context.Canceled, unavailable}, // the client left: nobody reads it
	{context.DeadlineExceeded, unavailable},
}

// problemOf turns an error into what a client is told. An error that nobody
// foresaw becomes internal, which tells nothing of it.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	for _, s := range logSentinels {
		if errors.Is(err, s.err) {
			return &problem{kind: s.kind, detail: s.err.Error(), cause: err}
		}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.kind.because("%w", err)
		}
	}
	return &problem{kind: internal, detail: "the server's log tells more", cause: err}
}

// fail answers with err. Where the site has routes for errors, the error is
// theirs to answer: it is returned, and only its headers are set.
func (e *endpoint) fail(w http.ResponseWriter, err error) error {
	p := problemOf(err)
	if p.kind == internal {
		e.logger.Error("answering a request", "error", p.cause)
	}
	h := w.Header()
	switch p.status() {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(p))
	case http.StatusMethodNotAllowed:
		h.Set("Allow", p.allow)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(e.retryAfter()))
	}
	if e.errorRoute {
		return caddyhttp.Error(p.status(), p)
	}
	body, err := p.MarshalJSON()
	if err != nil {
		return err
	}
	h.Set("Content-Type", "application/problem+json")
	writeBody(w, p.status(), body)
	return nil
}

// challenge says how to do better, in the words of RFC 6750.
func challenge(p *problem) string {
	if p.credential {
		return `Bearer error="invalid_token"`
	}
	return "Bearer"
}

// retryAfter is how many seconds a client is told to wait, at least one, and
// not the same for all.
func (e *endpoint) retryAfter() int {
	wait := e.stream.retryMin
	if spread := e.stream.retryMax - wait; spread > 0 {
		wait += rand.N(spread) //nolint:gosec // jitter, not a secret
	}
	return max(1, int((wait+time.Second-1)/time.Second))
}

// answer writes a document.
func (e *endpoint) answer(w http.ResponseWriter, v any) error {
	body, err := marshal(v)
	if err != nil {
		return e.fail(w, err)
	}
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, http.StatusOK, body)
	return nil
}

// writeBody ends an answer whose Content-Type is set. That the client may be
// gone is no error of the server's.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if h.Get("ETag") != "" {
		h.Set("Cache-Control", "no-store, no-transform") // encode would change the tag
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) //nolint:gosec // it is JSON, and nobody may sniff for HTML
}
