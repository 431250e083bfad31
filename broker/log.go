package broker

import (
	"context"
	"time"

	"github.com/evstream/caddy-evstream/internal/errkind"
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
	// with a key may be tried again. Any other error stored nothing; where it
	// is ErrUnavailable, because the log is out of reach.
	//
	// The log takes ownership of what the operations point to.
	Append(ctx context.Context, ops []Op) ([]Result, error)

	// Follow tells f where the log begins, then every retained entry after
	// that, oldest first, and then each new one, in order and once, until ctx
	// ends or the Log closes. Faults do not end it: they are told through
	// Follower.Cut. Where it returns all the same, the broker takes the log for
	// out of reach from then on. There is one follower at a time.
	Follow(ctx context.Context, f Follower) error

	// Sync returns when the follower has applied all that the log had when it
	// was called: who reads what was applied then reads what everybody wrote
	// before. It is ErrUnavailable where the log is out of reach.
	Sync(ctx context.Context) error

	// Close ends Follow and releases what the log holds.
	Close() error
}

// Follower is who applies a log. Its methods are called one at a time, and must
// not call the log.
type Follower interface {
	// Start comes before the first Apply. It comes again where the log does
	// not go on from what was applied: because it lost entries that had been
	// applied, or this follower missed some that the log does not have any more.
	Start(Origin)

	// Apply takes in entries, in order. It must not modify or keep them.
	Apply([]Entry)

	// Ready says that all has been applied that the log had: at first, when
	// the loading is done, and again after each Cut.
	Ready()

	// Cut says that what was applied may be behind, from now until Ready: the
	// log is out of reach, for the reason of err, or with nil is being loaded.
	// The first call to a follower is Ready, after Start, or Cut.
	Cut(err error)
}

// Origin is what a follower knows before the first entry.
type Origin struct {
	// ID is the position before the first entry that Follow will apply. It
	// counts as given by this log: a reader that has seen nothing yet holds it.
	// When Start comes again, what was applied up to ID stands, and what was
	// applied above it is void.
	ID ID
	// Durable says that ids outlive the process. A position that such a log
	// did not give is a sign of divergence; with any other log, of a restart.
	Durable bool
	// Born is the position that the log began at. It gave none below.
	Born ID
	// Lost has, for each policy by which entries are kept, the newest id of
	// those that are not: they were trimmed or, when Start comes again, are
	// missing between what was applied and what will be.
	Lost map[Policy]ID
	// Mixed is the newest entry before which nodes that share the log may have
	// kept the entries of one channel by different policies.
	Mixed ID
	// States are all the values that channels have at ID, or later: entries of
	// KindState, each with the id of its last change. What lies beyond comes
	// through Apply, which may repeat some.
	States []Entry
	// Removed are channels that had a value and have none, with an id that is
	// not below that of the removal; Forgot is the newest of the removals that
	// are not among them.
	Removed map[string]ID
	Forgot  ID
	// Gap is, when Start comes again, what readers are told.
	Gap string
}

// Cluster is what a Log is, too, that several nodes share.
type Cluster interface {
	// Node is the name of this node, another one each time that the log is
	// opened. It has no "." in it.
	Node() string

	// Members are the names of the nodes that share the log, this one too, in
	// order; false where that is not known for sure at the moment. A node is
	// one for at most ten seconds after it was heard of last.
	Members() ([]string, bool)

	// Report shares how many readers channels of this node have; 0 is none any
	// more. The broker reports a channel when its number has changed, and goes on
	// to report it, with the number of then, until Report has returned nil. With
	// an error, any part of readers may have been shared.
	//
	// After nil it is the log that keeps the numbers: until they are reported
	// anew or the node has gone, and also where the service behind the log loses
	// them. It must not keep the map.
	Report(ctx context.Context, readers map[string]int) error

	// Readers adds up what the other members have reported of each of names.
	Readers(ctx context.Context, names []string) ([]int, error)
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
	// KindNotice is a word of one node to all of them: Channel is what it is
	// about, and Event.Data what it says. It is not kept.
	KindNotice Kind = 4
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

	// History is the policy of the channel, and Rules a digest of all the rules
	// that policies come from. Publish fills them in, for logs that keep
	// entries of different policies apart.
	History Policy
	Rules   uint64
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
	ErrClosed      = errkind.New("unavailable", "", "the broker is closed")
	ErrUncertain   = errkind.Opaque("uncertain", "", "the outcome is unknown")
	ErrUnavailable = errkind.Opaque("unavailable", "log", "the log is out of reach")
	ErrLoading     = errkind.Opaque("unavailable", "log", "the log is being loaded")
	ErrKeyReused   = errkind.New("key-reused", "", "the idempotency key was used for another request")
	ErrTooManyKeys = errkind.New("overloaded", "", "too many idempotency keys are remembered")

	ErrStateMismatch = errkind.New("precondition-failed", "", "the channel's value is not in the state that the condition asks for")
	ErrStateFull     = errkind.New("state-full", "", "there is no room for more values")
)
