// Package problem turns errors into what clients get: RFC 9457 problem details.
//
// An error of any package declares its kind of problem where it is defined, with
// a method ProblemKind() string; [Of] says what becomes of other errors. All
// functions are safe for concurrent use.
package problem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Kind is a kind of problem: the name at the end of its type. A name, once
// released, keeps its meaning, and so does its status.
type Kind string

// URN precedes the name of a Kind in the type of a problem.
const URN = "urn:evstream:problem:"

// The kinds of problems.
const (
	BadPath            Kind = "bad-path"
	BadChannel         Kind = "bad-channel"
	BadParameter       Kind = "bad-parameter"
	BadEvent           Kind = "bad-event"
	BadBody            Kind = "bad-body"
	BadKey             Kind = "bad-key"
	BadState           Kind = "bad-state"
	BadPatch           Kind = "bad-patch"
	BadPrecondition    Kind = "bad-precondition"
	TooManyChannels    Kind = "too-many-channels"
	Unauthorized       Kind = "unauthorized"
	Forbidden          Kind = "forbidden"
	CrossOrigin        Kind = "cross-origin"
	NotFound           Kind = "not-found"
	NoState            Kind = "no-state"
	NoSession          Kind = "no-session"
	BadMethod          Kind = "bad-method"
	NotAcceptable      Kind = "not-acceptable"
	Timeout            Kind = "timeout"
	Conflict           Kind = "conflict"
	Closed             Kind = "closed"
	Gap                Kind = "gap"
	PreconditionFailed Kind = "precondition-failed"
	TooLarge           Kind = "too-large"
	BadMedia           Kind = "bad-media"
	KeyReused          Kind = "key-reused"
	Unprocessable      Kind = "unprocessable"
	TooManyFromAddress Kind = "too-many-connections"
	TooManyOfUser      Kind = "too-many-user-connections"
	ConnectRate        Kind = "connect-rate"
	RefusedRate        Kind = "refused-rate"
	ReadRate           Kind = "read-rate"
	PublishRate        Kind = "publish-rate"
	PublishBytes       Kind = "publish-bytes"
	Share              Kind = "share"
	EventType          Kind = "event-type"
	Schema             Kind = "schema"
	BadAnswer          Kind = "bad-answer"
	Overloaded         Kind = "overloaded"
	Contended          Kind = "contended"
	StateFull          Kind = "state-full"
	LogFull            Kind = "log-full"
	Unavailable        Kind = "unavailable"
	Uncertain          Kind = "uncertain"
	Internal           Kind = "internal"
)

var kinds = map[Kind]struct {
	status int
	title  string
}{
	BadPath:            {400, "The path cannot be read"},
	BadChannel:         {400, "Not the name of a channel"},
	BadParameter:       {400, "A parameter cannot be used"},
	BadEvent:           {400, "Not an event"},
	BadBody:            {400, "The body cannot be read"},
	BadKey:             {400, "Not an idempotency key"},
	BadState:           {400, "Not a value"},
	BadPatch:           {400, "Not a patch"},
	BadPrecondition:    {400, "Not a precondition"},
	TooManyChannels:    {400, "Too many channels for one stream"},
	Unauthorized:       {401, "Credentials are needed"},
	Forbidden:          {403, "Not allowed"},
	CrossOrigin:        {403, "Not allowed from this origin"},
	NotFound:           {404, "There is no such thing"},
	NoState:            {404, "The channel has no state"},
	NoSession:          {404, "There is no such session"},
	BadMethod:          {405, "The method is not served here"},
	NotAcceptable:      {406, "No acceptable answer"},
	Timeout:            {408, "The request did not arrive in time"},
	Conflict:           {409, "The change does not fit the value"},
	Closed:             {409, "The channel is closed"},
	Gap:                {410, "Events are lost"},
	PreconditionFailed: {412, "The value is not what the request expects"},
	TooLarge:           {413, "Too large"},
	BadMedia:           {415, "The body's encoding is not served"},
	KeyReused:          {422, "The idempotency key was used before"},
	Unprocessable:      {422, "The value is over a bound"},
	EventType:          {422, "The channel does not take that type of event"},
	Schema:             {422, "The data does not fit the channel's schema"},
	TooManyFromAddress: {429, "Too many streams from one address"},
	TooManyOfUser:      {429, "Too many streams of one user"},
	ConnectRate:        {429, "Too many new streams from one address"},
	RefusedRate:        {429, "Too many credentials that are refused"},
	ReadRate:           {429, "Too many reads"},
	PublishRate:        {429, "Too many events"},
	PublishBytes:       {429, "Too much data"},
	Share:              {429, "The caller's share is used up"},
	Internal:           {500, "The hub failed"},
	BadAnswer:          {502, "The application's answer cannot be served"},
	Overloaded:         {503, "A limit is reached"},
	Contended:          {503, "Others write the value at the same time"},
	Unavailable:        {503, "Not now"},
	Uncertain:          {503, "The outcome is unknown"},
	StateFull:          {507, "There is no room for the value"},
	LogFull:            {507, "The disk is full"},
}

// Kinds returns all kinds, sorted.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }

// Known reports whether there is such a kind.
func (k Kind) Known() bool { _, ok := kinds[k]; return ok }

// Status is the HTTP status of a kind.
func (k Kind) Status() int { return kinds[k].status }

// Because returns a problem of kind k. Its detail is formatted as by fmt.Errorf;
// an error that is wrapped with %w is its cause.
func (k Kind) Because(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Detail: err.Error(), Cause: errors.Unwrap(err)}
}

// Hiding returns a problem of kind k. The client gets the detail; the cause is only
// for the log.
func (k Kind) Hiding(cause error, detail string) *Error {
	return &Error{Kind: k, Detail: detail, Cause: cause}
}

// Error is an error that a client gets as a problem document. It must not be
// modified once it has been returned.
type Error struct {
	Kind   Kind
	Detail string
	Cause  error  // nil if there is none
	Reason string // the label "reason" in metrics; "" for that of the cause
	Allow  string // of BadMethod: the methods that are allowed

	// Pointer is the JSON Pointer (RFC 6901) of the bad part of the data, and
	// Operation the index of the failed operation of a patch; nil if there is
	// none.
	Pointer   *string
	Operation *int

	// Credential is set if a credential was sent and is not accepted.
	Credential bool

	// Progress is how far a body of many events was published before the
	// problem; nil for other requests.
	Progress *Progress
}

// Progress says what of a body was published, and where the problem is.
type Progress struct {
	Published int
	ID        string // of the last event that was published, "" for none
	Line      int    // of the body, from 1; 0 for none
	Event     int    // of the body, from 1; 0 for none
}

// Error implements error: it is the detail.
func (e *Error) Error() string { return e.Detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ProblemKind returns the kind.
func (e *Error) ProblemKind() string { return string(e.Kind) }

// Status is the HTTP status.
func (e *Error) Status() int { return e.Kind.Status() }

// At returns a copy of e with its progress.
func (e *Error) At(p Progress) *Error {
	located := *e
	located.Progress = &p
	return &located
}

// MarshalJSON implements json.Marshaler: it returns the problem document.
func (e *Error) MarshalJSON() ([]byte, error) {
	k := kinds[e.Kind]
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
	}{Type: URN + string(e.Kind), Title: k.title, Status: k.status, Detail: e.Detail, Operation: e.Operation, Pointer: e.Pointer}
	if e.Kind == Uncertain {
		doc.Outcome = "unknown"
	}
	if p := e.Progress; p != nil {
		doc.Published, doc.ID, doc.Line, doc.Event = &p.Published, p.ID, p.Line, p.Event
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Of returns the problem that a client gets for an error.
//
// If there is an *Error in the chain of err, it is that. Otherwise the first error
// of the chain that has a method ProblemKind() string declares the kind. If that
// error also has a method ProblemDetail() string that does not return "", the
// client gets only that detail; if not, the text of err. If no error declares a
// kind, the client gets none of the text, unless the context has ended.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if kind, detail := declared(err); kind.Known() {
		if detail != "" {
			return kind.Hiding(err, detail)
		}
		return kind.Because("%w", err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Unavailable.Because("%w", err) // the client has left
	}
	return Internal.Hiding(err, "internal error; see the server's log")
}

// Declared returns the kind that an error of the chain declares; "" if none does.
func Declared(err error) Kind {
	kind, _ := declared(err)
	return kind
}

func declared(err error) (kind Kind, detail string) {
	e, ok := errors.AsType[interface {
		error
		ProblemKind() string
	}](err)
	if !ok {
		return "", ""
	}
	if d, ok := e.(interface{ ProblemDetail() string }); ok {
		detail = d.ProblemDetail()
	}
	return Kind(e.ProblemKind()), detail
}

// ReasonOf returns the label "reason" of an error in metrics: that of an *Error,
// or of the first error of the chain with a method MetricReason() string; "" if
// there is none.
func ReasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Reason != "" {
		return e.Reason
	}
	if e, ok := errors.AsType[interface {
		error
		MetricReason() string
	}](err); ok {
		return e.MetricReason()
	}
	return ""
}

// Clip shortens a part of a request that an error quotes, to 64 bytes.
func Clip(s string) string { return ClipTo(s, 64) }

// ClipTo is Clip to another number of bytes.
func ClipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most-- // not in the middle of a rune
	}
	return s[:most] + "…"
}
