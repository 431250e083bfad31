package evstream

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/problem"
)

// Where Caddy's tracing handler stands in front, a request that publishes has a span of
// its own, beneath that of the request: one for all its events, and so has one whose answer is
// recorded. A stream has none.

// publishSpan is what a request has published. It is for one goroutine at a time.
type publishSpan struct {
	parent trace.Span
	began  time.Time
	broker string

	done     bool // something was published, or refused
	ops      int
	refused  int
	channels map[string]struct{} // at most maxTracedChannels
	last     broker.ID
	result   string // of the first that was refused, or "stored"
	failed   bool
}

// maxTracedChannels bounds how many different channels of a request are counted.
const maxTracedChannels = 1000

type publishSpanKey struct{}

// traced returns the request with a publishSpan, if it is traced and may publish. end
// must be called when it is answered.
func traced(r *http.Request, broker string) (_ *http.Request, end func()) {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return r, func() {}
	}
	parent := trace.SpanFromContext(r.Context())
	if !parent.IsRecording() {
		return r, func() {}
	}
	s := &publishSpan{parent: parent, began: time.Now(), broker: broker, channels: make(map[string]struct{})}
	ctx := context.WithValue(r.Context(), publishSpanKey{}, s)
	return r.WithContext(ctx), func() { s.end(r.Context()) }
}

// Published implements httpapi.Tracer.
func (*caddyHost) Published(ctx context.Context, ops []broker.Op, results []broker.Result, err error) {
	s, ok := ctx.Value(publishSpanKey{}).(*publishSpan)
	if !ok {
		return
	}
	s.done = true
	s.ops += len(ops)
	for i := range ops {
		if len(s.channels) < maxTracedChannels {
			s.channels[ops[i].Channel] = struct{}{}
		}
	}
	if err != nil {
		s.refused += len(ops)
		s.refuse(err)
		return
	}
	for i := range results {
		if r := &results[i]; r.Err != nil {
			s.refused++
			s.refuse(r.Err)
		} else {
			s.last = r.ID
		}
	}
}

// refuse notes why an operation was refused.
func (s *publishSpan) refuse(err error) {
	p := problem.Of(err)
	if s.result == "" {
		s.result = string(p.Kind)
	}
	s.failed = s.failed || p.Status() >= http.StatusInternalServerError
}

// end makes the span, if something was published.
func (s *publishSpan) end(ctx context.Context) {
	if !s.done {
		return
	}
	if s.result == "" {
		s.result = "stored"
	}
	attributes := []attribute.KeyValue{
		attribute.String("evstream.broker", s.broker),
		attribute.Int("evstream.operations", s.ops),
		attribute.Int("evstream.refused", s.refused),
		attribute.Int("evstream.channels", len(s.channels)),
		attribute.String("evstream.result", s.result),
	}
	if !s.last.IsZero() {
		attributes = append(attributes, attribute.String("evstream.id", s.last.String()))
	}
	_, span := s.parent.TracerProvider().Tracer("github.com/evstream/caddy-evstream").Start(ctx, "evstream publish",
		trace.WithTimestamp(s.began), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attributes...))
	if s.failed {
		span.SetStatus(codes.Error, s.result)
	}
	span.End()
}

// Interface guard
var _ httpapi.Tracer = (*caddyHost)(nil)
