package httpapi

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
)

// Bounds of what is appended together.
const (
	maxTogether      = 256       // operations
	maxTogetherBytes = 256 << 10 // of data
	// maxTogetherTime is how long an operation waits at most while lines that have
	// arrived behind it are read and checked.
	maxTogetherTime = 5 * time.Millisecond
)

// together publishes what a body has, in order. Lines and events that arrive together are
// appended together: what was read is published as soon as reading on would have to wait.
// Each is refused, and reported, as if it were published by itself.
type together struct {
	h     *Handler
	by    author
	waits func([]broker.Op) bool // admitting them would take long

	ops    []broker.Op
	size   int        // of their data
	places []progress // the line and the event of each stage of ops
	since  time.Time  // when the first of ops was added

	done     progress // of all that was published; where it was refused, the place of that
	replayed bool     // all of it was published by an earlier request
	refused  error    // after which nothing is published
}

// publishAll publishes until the source that open makes of a body ends. It reports
// whether every event was published by an earlier request.
func (h *Handler) publishAll(ctx context.Context, body io.Reader, open func(io.Reader) opSource, by author) (pr progress, replayed bool, err error) {
	t := &together{h: h, by: by, waits: h.hub.RulesWait, replayed: true}
	next := open(&beforeRead{body, func() error { return t.publish(ctx) }})
	var at progress
	for {
		ops, err := next(&at)
		ends := errors.Is(err, io.EOF)
		switch {
		case t.refused != nil || ends: // err is that of beforeRead, or none
			err = nil
		case err != nil:
			err = bodies.Problem(err, h.maxBody)
		default:
			err = t.add(ctx, ops, at)
		}
		if err == nil && !ends && t.refused == nil {
			continue
		}
		// Nothing more is to come: what came before is published.
		if refused := t.publish(ctx); refused != nil {
			return t.done, false, refused
		}
		if err != nil {
			t.done.line, t.done.event = at.line, at.event
			return t.done, false, err
		}
		return t.done, t.replayed && t.done.published > 0, nil
	}
}

// add adds the operations of the line or event at a place, if the caller may publish
// them.
func (t *together) add(ctx context.Context, ops []broker.Op, at progress) error {
	size := 0
	for i := range ops {
		size += sizeOf(&ops[i])
	}
	if len(t.ops)+len(ops) > maxTogether || t.size+size > maxTogetherBytes || len(t.ops) > 0 && t.waits(ops) {
		if err := t.publish(ctx); err != nil {
			return err
		}
	}
	numberKeys(ops, t.by.key, t.done.published+len(t.ops))
	if err := t.h.admit(ctx, t.by, ops, size); err != nil {
		t.h.Published(ctx, ops, nil, err)
		return err
	}
	if len(t.ops) == 0 {
		t.since = time.Now()
	}
	for i := range ops {
		ops[i].Stage = len(t.places)
	}
	t.places = append(t.places, at)
	if t.size += size; len(t.ops) == 0 {
		t.ops = ops
	} else {
		t.ops = append(t.ops, ops...)
	}
	if time.Since(t.since) > maxTogetherTime {
		return t.publish(ctx)
	}
	return nil
}

// publish publishes what was added. The error is that of the first line or event that is
// refused, from then on.
func (t *together) publish(ctx context.Context) error {
	for t.refused == nil && len(t.ops) > 0 {
		t.refused = t.append(ctx)
	}
	return t.refused
}

// append appends what was added, or as much of it as can be appended together.
func (t *together) append(ctx context.Context) error {
	ops := t.ops
	results, err := t.h.hub.Broker().Publish(ctx, ops)
	n, size := reached(ops, results, err), 0
	done, results := ops[:n], results[:min(n, len(results))]
	for i := range done {
		size += sizeOf(&done[i])
	}
	t.h.hub.NotPublished(t.by.publisher, refusedOf(done, size, results, err))
	t.h.Published(ctx, done, results, err)
	if err != nil {
		t.refusedAt(&ops[0])
	} else {
		err = t.count(done, results)
	}
	t.ops, t.size = ops[len(done):], t.size-size
	if err != nil {
		t.h.hub.NotTried(t.by.publisher, len(t.ops), t.size)
	}
	if len(t.ops) == 0 {
		t.ops, t.places = nil, t.places[:0]
	}
	return err
}

// reached is how many operations were looked at.
func reached(ops []broker.Op, results []broker.Result, err error) (n int) {
	switch {
	case errors.Is(err, broker.ErrUncertain):
		return len(ops)
	case err != nil:
		for n < len(ops) && ops[n].Stage == ops[0].Stage {
			n++
		}
		return n
	}
	for n < len(results) && !errors.Is(results[n].Err, broker.ErrNotReached) {
		n++
	}
	return n
}

// count counts what was published. The error is that of the first operation that was
// refused: those after it, of the same line, may have succeeded.
func (t *together) count(ops []broker.Op, results []broker.Result) (refused error) {
	for i := range ops {
		if err := results[i].Err; err != nil {
			if refused == nil {
				refused = err
				t.refusedAt(&ops[i])
			}
			continue
		}
		t.done.published++
		t.done.last = results[i].ID
		t.replayed = t.replayed && results[i].Repeated
	}
	return refused
}

// refusedAt notes where an operation comes from that was refused.
func (t *together) refusedAt(op *broker.Op) {
	at := t.places[op.Stage]
	t.done.line, t.done.event = at.line, at.event
}

// beforeRead is a reader that calls a function before each read, and does not read if
// that fails.
type beforeRead struct {
	r      io.Reader
	before func() error
}

// Read implements io.Reader.
func (b *beforeRead) Read(p []byte) (int, error) {
	if err := b.before(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}
