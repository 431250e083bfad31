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
	// Append decides each operation (idempotency key, whether the channel is closed,
	// condition and bounds of state) and stores those that are not refused, with no entry of another
	// Append between them. The Result of a refused one has an Err; those of a higher Stage
	// are not decided then, and have ErrNotReached.
	//
	// When it returns nil, the entries are as durable as the implementation
	// promises, and this node has applied them. With ErrUncertain entries may or
	// may not be stored: only operations with keys may be tried again. With any
	// other error nothing is stored; it is ErrUnavailable if the log is out of
	// reach, and ErrFull if there is no room on its disk.
	//
	// The log takes ownership of what the operations point to.
	Append(ctx context.Context, ops []Op) ([]Result, error)

	// Follow calls f with where the log begins, with every retained entry after
	// that, oldest first, and with each new one, in order and once, until ctx
	// ends or the Log is closed. A log may begin with its newest entry, and give those
	// before it meanwhile: see Origin.Older. A fault does not end it, but is told by
	// f.Cut. If it returns for another reason, the broker treats the log as out
	// of reach from then on. There is one follower at a time.
	Follow(ctx context.Context, f Follower) error

	// Sync waits until the follower has applied all that the log had when Sync
	// was called, on whatever node it was appended. It returns ErrUnavailable if
	// the log is out of reach.
	Sync(ctx context.Context) error

	// Close ends Follow and releases what the log holds.
	Close() error
}

// ByPolicy is implemented by a Log that keeps the entries of different policies apart:
// its operations have History and Rules. Those of a Cluster have them as well.
type ByPolicy interface{ KeepsByPolicy() }

// Follower applies a log. The log calls the methods one at a time, but for Older; they
// must not call the log.
type Follower interface {
	// Start comes before the first Apply. It comes again if the log does not
	// continue what was applied: because it lost entries that had been applied,
	// or has trimmed entries that this follower has not been given.
	Start(Origin)

	// Apply applies entries, in order. It must not modify or keep them.
	Apply([]Entry)

	// Older applies, after a Start with Origin.Older, what the log has retained from
	// before that: the newest part first. entries are in order, and are all that is
	// retained above after and not above the after of the call before, or Origin.ID, but
	// for notices and what Origin has. The last call has the zero ID as after. It must not modify or keep entries. It may be called while
	// another method runs, and takes long.
	Older(entries []Entry, after ID)

	// Ready says that all entries have been applied that the log had, but for those
	// that Older applies: first when it is loaded, and again after each Cut.
	Ready()

	// Cut says that from now until Ready entries may be missing: the log is out
	// of reach because of err, or is being loaded if err is nil. It may come
	// again, with another reason. The first call of a follower is Start, which
	// Ready follows, or Cut.
	Cut(err error)
}

// Span is the ids above After and below To.
type Span struct{ After, To ID }

func (s Span) has(id ID) bool { return id.After(s.After) && s.To.After(id) }

// Origin is what a follower knows before the first entry.
type Origin struct {
	// ID is the position before the first entry that Follow will apply. It counts
	// as issued by this log: it is the cursor of a reader that has read nothing.
	// When Start comes again, what was applied up to ID remains valid, and what
	// was applied above it is void.
	ID ID
	// Older says that the log has retained entries up to ID. Older applies them, while
	// those above ID are applied. States and Closed are complete then.
	Older bool
	// Durable says that ids outlive the process. A cursor that such a log has not
	// issued is of a log that diverged; with any other log, of an earlier run.
	Durable bool
	// Born is the position that the log began at: it issued no id below.
	Born ID
	// Issued is the newest id that a log of one process has issued, as far as it
	// knows: all ids from Born up to it count as issued, also those of entries that
	// are not kept. Zero where it is not known.
	Issued ID
	// Void are ids below Issued of entries that the log may have lost: it was put back to a
	// backup. A cursor in one is of a log that diverged, and a reader from before one may
	// have missed what it has lost. The ends of a span are ids of no entry that is lost.
	Void []Span
	// Lost has, for each policy by which entries are kept, the newest id of an
	// entry that is not there any more: it was trimmed or, when Start comes
	// again, is missing between what was applied and what will be.
	Lost map[Policy]ID
	// Rules is the digest of the rules by which the newest entries are kept, as
	// operations have it; zero where it is not known.
	Rules uint64
	// Mixed is the newest id up to which nodes that share the log may have kept
	// the entries of one channel by different policies.
	Mixed ID
	// States are all values that channels have at ID, or later: entries of
	// KindState, each with the id of its last change. Later changes come through
	// Apply, which may repeat some.
	States []Entry
	// Removed are channels that had a value and have none, each with an id that
	// is not below that of the removal. Forgot is the newest of the removals that
	// are not in Removed.
	Removed map[string]ID
	Forgot  ID
	// Closed are all channels that are closed at ID, or later: entries of KindClose,
	// each with the id of the one that closed it, and without its last event. Apply
	// may repeat some. A log that retains all of them may leave it out.
	Closed []Entry
	// Gap is the reason of the gap that readers are told when Start comes again.
	Gap string
}

// Cluster is implemented by a Log that several nodes share. Methods are safe for
// concurrent use.
type Cluster interface {
	// Node is the name of this node. It differs each time that the log is opened,
	// and has no "." in it.
	Node() string

	// Members are the names of the nodes that share the log, including this one,
	// in order; false if that is not known for sure at the moment. A node is no
	// member any more ten seconds after it was last heard of.
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

	// Readers adds up what the other members have reported for each of names.
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
	// KindNotice is a message of one node to all: Channel is its subject, and
	// Event.Data its content. It is not kept.
	KindNotice Kind = 4
	// KindClose closes a channel, with a last event or without. From then on the log
	// refuses events and values of the channel, until KindPurge opens it again or the
	// time that the entry says is over.
	KindClose Kind = 5
)

// EntryVersion is the format of the entries that this package writes.
const EntryVersion = 1

// Op is what a caller asks the log to add.
type Op struct {
	Kind    Kind
	Channel string    // a channel, or for an event a name beneath ("football/")
	Event   sse.Event // KindEvent, and a last event: ID is the publisher's own id
	Except  string    // KindEvent: the session that does not get it
	Filter  *Filter   // KindEvent: who gets it beside that; nil is everybody
	State   *StateOp  // KindState
	Close   *CloseOp  // KindClose
	Key     Key       // makes the operation safe to try again
	Owner   Owner     // in whose share what it adds counts

	// Stage makes what is refused hold up what comes later: an operation is not decided,
	// and has ErrNotReached, if one of a lower Stage was refused in the same Append.
	// Operations are ordered by it. Those of the same Stage do not depend on each other.
	Stage int

	// History is the policy of the channel, and Rules a digest of the rules that
	// policies come from. Publish sets them, for logs that keep the entries of
	// different policies apart.
	History Policy
	Rules   uint64

	counted bool // its key is counted in the owner's share
	oldKey  bool // the owner's share has no room for its key: only a known one is answered
}

// Key is an idempotency key. The zero Key is none.
type Key struct {
	// Identity is the sender. The same key of another identity is another key.
	Identity string
	// Key is the Idempotency-Key, at most MaxKeyLen bytes.
	Key string
}

// MaxKeyLen bounds an idempotency key; KeyWindow is how long one is remembered.
const (
	MaxKeyLen = 255
	KeyWindow = 5 * time.Minute
)

// Entry is an operation that is in the log, with its id.
type Entry struct {
	ID      ID
	Version uint8
	Kind    Kind
	Channel string
	Event   sse.Event
	Except  string
	Filter  *Filter
	State   *StateEntry
	Close   *CloseEntry
	Owner   Owner // that of the Op; 0 if the log cannot tell
}

// Result is what became of one Op.
type Result struct {
	ID ID
	// Repeated says that the key was known: ID is that of the first answer.
	Repeated bool
	// Created says that the channel had no value before, Unchanged that it had an
	// equal one: then ID is the version of that. Unchanged says, too, that the channel
	// was closed already, by ID.
	Created, Unchanged bool
	// State is what the channel has instead, if the condition of a state
	// operation did not hold; and what the first one set, if an operation is
	// repeated that keeps its Answer.
	State *State
	// Err says why the operation was refused: ErrKeyReused, ErrTooManyKeys,
	// ErrStateMismatch, ErrStateFull, ErrChannelClosed or ErrTooManyClosed. Or why it
	// was not decided: ErrNotReached.
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

	// ErrFull is the error of an Append that found no room on the disk: nothing is
	// stored, and it may be tried again.
	ErrFull = errkind.Opaque("log-full", "log", "the disk of the log is full")

	ErrStateMismatch = errkind.New("precondition-failed", "", "the channel's value is not in the state that the condition asks for")
	ErrStateFull     = errkind.New("state-full", "", "there is no room for more values")
)
