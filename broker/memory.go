package broker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// MemoryLog is a Log in memory. It keeps no entries: the follower's histories are
// the only copy. Of each channel it keeps the current value, to decide conditions
// by.
//
// In each millisecond its ids begin at a number that is drawn at random when the
// log is made, so that a cursor of an earlier run is not taken for one of this run.
type MemoryLog struct {
	mu     sync.Mutex
	last   ID
	base   uint64
	keys   keyWindow
	states stateTable
	follow Follower
	batch  []Entry // reused: apply does not keep it
	closed chan struct{}
	now    func() time.Time
}

// NewMemory returns an empty MemoryLog.
func NewMemory() *MemoryLog { return newMemory(time.Now) }

func newMemory(now func() time.Time) *MemoryLog {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	l := &MemoryLog{
		base:   1 + uint64(binary.NativeEndian.Uint32(b[:])),
		keys:   keyWindow{max: maxKeys},
		closed: make(chan struct{}),
		now:    now,
	}
	l.last = ID{Ms: uint64(max(now().UnixMilli(), 0)), N: l.base}
	return l
}

// Append implements Log. Entries are lost when the process ends.
func (l *MemoryLog) Append(ctx context.Context, ops []Op) ([]Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]Result, len(ops))
	digests := digestsOf(ops) // before the lock, because they take long
	values := valueDigestsOf(ops)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return nil, ErrClosed
	}
	now := l.now()
	l.keys.expire(now)
	l.batch = l.batch[:0]
	for i := range ops {
		op, r := &ops[i], &results[i]
		if op.Key != (Key{}) {
			if l.keys.known(now, op, digests[i], r) {
				continue
			}
			if op.oldKey {
				r.Err = ErrShareOfKeys
				continue
			}
			if !l.keys.room(now) {
				r.Err = ErrTooManyKeys
				continue
			}
		}
		next := l.next(now)
		var state *StateEntry
		if op.Kind == KindState {
			if state = l.states.decide(op, values[i], next, now, r); r.Err != nil {
				continue
			}
		}
		if r.ID = next; r.Unchanged {
			r.ID = l.states.of(op.Channel).Version
		}
		if op.Key != (Key{}) {
			l.keys.remember(now, op, digests[i], r)
		}
		if r.Unchanged {
			continue
		}
		l.last = next
		l.batch = append(l.batch, Entry{
			ID: l.last, Version: EntryVersion, Kind: op.Kind,
			Channel: op.Channel, Event: op.Event, Except: op.Except, State: state, Owner: op.Owner,
		})
	}
	if len(l.batch) > 0 && l.follow != nil {
		l.follow.Apply(l.batch)
		clear(l.batch) // so that the events' data can be freed
	}
	return results, nil
}

// digestsOf are the digests of operations that have keys; nil if none has.
func digestsOf(ops []Op) (digests []digest) {
	for i := range ops {
		if ops[i].Key == (Key{}) {
			continue
		}
		if digests == nil {
			digests = make([]digest, len(ops))
		}
		digests[i] = ops[i].digest()
	}
	return digests
}

// next is the next id: of this millisecond, unless the clock has not moved on or has
// been set back.
func (l *MemoryLog) next(now time.Time) ID {
	if ms := uint64(max(now.UnixMilli(), 0)); ms > l.last.Ms {
		return ID{Ms: ms, N: l.base}
	}
	return ID{Ms: l.last.Ms, N: l.last.N + 1}
}

// Follow implements Log. No entries are retained, so it begins at the newest id.
func (l *MemoryLog) Follow(ctx context.Context, f Follower) error {
	l.mu.Lock()
	if l.isClosed() {
		l.mu.Unlock()
		return ErrClosed
	}
	f.Start(Origin{ID: l.last, Born: l.last, States: l.states.entries()})
	f.Ready()
	l.follow = f
	l.mu.Unlock()

	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.closed:
		err = ErrClosed
	}
	l.mu.Lock()
	l.follow = nil
	l.mu.Unlock()
	return err
}

// Sync implements Log. It has nothing to wait for, because Append applies.
func (l *MemoryLog) Sync(ctx context.Context) error {
	if l.isClosed() {
		return ErrClosed
	}
	return ctx.Err()
}

// Close implements Log.
func (l *MemoryLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isClosed() {
		close(l.closed)
	}
	return nil
}

func (l *MemoryLog) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

var _ Log = (*MemoryLog)(nil)
