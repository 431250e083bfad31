package broker

import (
	"context"
	"errors"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// Log orders the entries of one broker and keeps them as long as it promises.
// Methods are safe for concurrent use and return ErrClosed after Close.
type Log interface {
	// Append decides each operation (idempotency key, condition and bounds of
	// state) and stores it, all in one place in the order. When it returns nil the entries are as durable
	// as the implementation promises and this node has applied them; a
	// Result's own Err says that its operation was refused and left no entry.
	// On ErrUncertain an entry may or may not be stored: only an operation
	// with a key may be tried again. Any other error stored nothing.
	//
	// The log takes ownership of what the operations point to.
	Append(ctx context.Context, ops []Op) ([]Result, error)

	// Follow calls start once with the position it begins at, then apply for
	// every retained entry after that, oldest first, and then for each new
	// one, in order and once, until ctx ends or the Log closes. apply must not
	// modify an entry, and must not call the log. There is one follower at a
	// time.
	Follow(ctx context.Context, start func(Origin), apply func([]Entry)) error

	// Close ends Follow and releases what the log holds.
	Close() error
}

// Origin is what a follower knows before the first entry.
type Origin struct {
	// ID is the position before the first entry that Follow will apply. It
	// counts as given by this log: a reader that has seen nothing yet holds it.
	ID ID
	// Durable says that ids outlive the process. A position that such a log
	// did not give is a sign of divergence; with any other log, of a restart.
	Durable bool
	// States are the values that channels have at ID: entries of KindState,
	// each with the id of its last change. What lies beyond comes through apply.
	States []Entry
}

// Kind says what an entry does to the broker that applies it.
type Kind uint8

// The kinds of entries. A broker skips and counts the kinds and versions that
// it does not know, so that nodes of different versions can share a log.
const (
	// KindEvent adds an event to a channel, or to everything beneath a name.
	KindEvent Kind = 1
	// KindPurge removes what a channel's history keeps.
	KindPurge Kind = 2
	// KindState sets or removes the value of a channel.
	KindState Kind = 3
)

// EntryVersion is the format of the entries that this package writes.
const EntryVersion = 1

// Op is what a caller asks the log to add.
type Op struct {
	Kind    Kind
	Channel string    // a channel, or for an event a name beneath ("football/")
	Event   sse.Event // KindEvent: ID is the publisher's own id
	Except  string    // KindEvent: the session that does not get it
	State   *StateOp  // KindState
	Key     Key       // makes the operation safe to try again
}

// Key is an idempotency key. The zero Key is none.
type Key struct {
	// Identity is who sent it: the same key of another identity is another key.
	Identity string
	// Key is the Idempotency-Key, at most MaxKeyLen bytes.
	Key string
}

// MaxKeyLen bounds an idempotency key; KeyWindow is how long one is remembered.
const (
	MaxKeyLen = 255
	KeyWindow = 5 * time.Minute
)

// Entry is an operation that has its place in the log.
type Entry struct {
	ID      ID
	Version uint8
	Kind    Kind
	Channel string
	Event   sse.Event
	Except  string
	State   *StateEntry
}

// Result is what became of one Op.
type Result struct {
	ID ID
	// Repeated says that the key was known: ID is the first answer's.
	Repeated bool
	// Created says that a channel had no value before, Unchanged that it had
	// an equal one: ID is that one's version.
	Created, Unchanged bool
	// State is, where the condition of a state operation did not hold, what
	// the channel has instead; and where one is repeated that keeps its
	// Answer, what the first one set.
	State *State
	// Err says why the operation was refused: ErrKeyReused, ErrTooManyKeys,
	// ErrStateMismatch or ErrStateFull.
	Err error
}

// Sentinels of the log and the broker, matched with errors.Is.
var (
	ErrClosed      = errors.New("the broker is closed")
	ErrUncertain   = errors.New("the outcome is unknown")
	ErrKeyReused   = errors.New("the idempotency key was used for another request")
	ErrTooManyKeys = errors.New("too many idempotency keys are remembered")

	ErrStateMismatch = errors.New("the channel's value is not in the state that the condition asks for")
	ErrStateFull     = errors.New("there is no room for more values")
)
