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
	decide *Decider
	follow Follower
	batch  Decisions // reused: apply does not keep it
	closed chan struct{}
	now    func() time.Time
}

// NewMemory returns an empty MemoryLog.
func NewMemory() *MemoryLog { return newMemory(time.Now) }

func newMemory(now func() time.Time) *MemoryLog {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	base := 1 + uint64(binary.NativeEndian.Uint32(b[:]))
	return &MemoryLog{
		decide: NewDecider(ID{Ms: uint64(max(now().UnixMilli(), 0)), N: base}, base),
		closed: make(chan struct{}),
		now:    now,
	}
}

// Append implements Log. Entries are lost when the process ends.
func (l *MemoryLog) Append(ctx context.Context, ops []Op) ([]Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]Result, len(ops))
	prepared := Prepare(ops) // before the lock, because it takes long
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return nil, ErrClosed
	}
	l.decide.Decide(l.now(), ops, prepared, results, &l.batch)
	if len(l.batch.Entries) > 0 && l.follow != nil {
		l.follow.Apply(l.batch.Entries)
	}
	l.batch.Reset() // so that the events' data can be freed
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

// Follow implements Log. No entries are retained, so it begins at the newest id.
func (l *MemoryLog) Follow(ctx context.Context, f Follower) error {
	l.mu.Lock()
	if l.isClosed() {
		l.mu.Unlock()
		return ErrClosed
	}
	last := l.decide.Last()
	f.Start(Origin{ID: last, Born: last, States: l.decide.States(), Closed: l.decide.Closed()})
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
