package broker

import (
	"errors"
	"fmt"
	"testing"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// TestErrorsSayTheirKind is the whole table of what clients are told, and what is
// counted, of the errors of this package and of those beneath.
func TestErrorsSayTheirKind(t *testing.T) {
	for _, row := range []struct {
		err          error
		kind, reason string
		opaque       bool
	}{
		{ErrUncertain, "uncertain", "", true},
		{ErrLoading, "unavailable", "log", true},
		{ErrUnavailable, "unavailable", "log", true},
		{ErrFull, "log-full", "log", true},
		{ErrClosed, "unavailable", "", false},
		{channel.ErrName, "bad-channel", "", false},
		{ErrStateName, "bad-channel", "", false},
		{sse.ErrType, "bad-event", "", false},
		{sse.ErrID, "bad-event", "", false},
		{sse.ErrData, "bad-event", "", false},
		{sse.ErrRetry, "bad-event", "", false},
		{ErrReservedType, "bad-event", "", false},
		{ErrReservedID, "bad-event", "", false},
		{ErrEventTooLarge, "too-large", "", false},
		{ErrStateTooLarge, "too-large", "", false},
		{ErrKeyReused, "key-reused", "", false},
		{ErrStateMismatch, "precondition-failed", "", false},
		{ErrStateFull, "state-full", "", false},
		{ErrNoSession, "no-session", "", false},
		{ErrContended, "contended", "", false},
		{jsonvalue.ErrBounds, "unprocessable", "", false},
		{jsonvalue.ErrSyntax, "bad-state", "", false},
		{ErrNoChannels, "bad-parameter", "", false},
		{ErrTooManySubscriptionChannels, "too-many-channels", "max_session_channels", false},
		{ErrTooManySubscriptionPatterns, "too-many-channels", "max_session_patterns", false},
		{ErrTooManySubscriptions, "overloaded", "max_connections", false},
		{ErrTooManySubscribers, "overloaded", "max_subscribers", false},
		{ErrTooManyPatterns, "overloaded", "max_patterns", false},
		{ErrTooManyChannels, "overloaded", "max_channels", false},
		{ErrTooManyKeys, "overloaded", "", false},
	} {
		// A cause with a kind of its own does not win over the error it is told with.
		err := fmt.Errorf("doing something: %w: %w", row.err, ErrNoChannels)
		if !errors.Is(err, row.err) {
			t.Errorf("%v is not found", row.err)
		}
		kind, ok := errors.AsType[interface {
			error
			ProblemKind() string
		}](err)
		if !ok || kind.ProblemKind() != row.kind {
			t.Errorf("%v: the kind is %v, want %q", row.err, kind, row.kind)
		}
		var reason, detail string
		if e, ok := row.err.(interface{ MetricReason() string }); ok {
			reason = e.MetricReason()
		}
		if e, ok := row.err.(interface{ ProblemDetail() string }); ok {
			detail = e.ProblemDetail()
		}
		if reason != row.reason || (detail != "") != row.opaque {
			t.Errorf("%v: the reason is %q, the detail %q", row.err, reason, detail)
		}
		if detail != "" && detail != row.err.Error() {
			t.Errorf("%v: the detail is %q", row.err, detail)
		}
	}
}
