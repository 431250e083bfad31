package httpapi

import (
	"slices"
)

// Parameters returns the query parameters that have a meaning of their own,
// sorted.
func Parameters() []string { return slices.Clone(parameters) }

var parameters = []string{
	"after", "as", "broker", "channel", "envelope", "event", "evs_last_event_id", "evs_preamble", "except", "history", "id",
	"incr", "info", "last", "lastEventId", "last_event_id", "limit", "named", "open", "padding", "poll", "prefix", "retry",
	"session", "since", "ticket", "timeout",
}
