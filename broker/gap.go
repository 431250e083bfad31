package broker

// Reasons of a Gap.
const (
	// ReasonTrimmed: the history does not reach back to the cursor any more.
	ReasonTrimmed = "trimmed"
	// ReasonRestarted: the cursor is of another run of a log that is not durable.
	ReasonRestarted = "restarted"
	// ReasonDiverged: the durable log has never issued the cursor, or has lost it.
	ReasonDiverged = "diverged"
	// ReasonUnknown: what the client sent is neither a position nor the id of a
	// kept event.
	ReasonUnknown = "unknown"
)

// Gap says that events between a reader's cursor and the next event that it gets are
// lost to it, or may be.
type Gap struct {
	Reason string
	// Oldest and Newest are the first and the last event that the reader's
	// channels keep; zero if they keep none.
	Oldest, Newest ID
}

// Replay says what a subscription got that asked for history by Start.Since, Earliest or
// Last.
type Replay struct {
	// Complete says that nothing has been lost of what it asked for. It may be false
	// where nothing was: of channels that were dropped from memory not all is known.
	Complete bool
	// Oldest is the first event that its channels keep, if it is not Complete; zero
	// if they keep none.
	Oldest ID
}
