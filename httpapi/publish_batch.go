package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/jsonbody"
	"github.com/evstream/caddy-evstream/problem"
)

// Bounds of one batch. Each channel of each item is one event, and the data counts
// once for each: a small body for many channels is bounded, too. A MaxBody that is
// larger than maxBatchBytes takes its place.
const (
	maxBatch      = 1000
	maxBatchBytes = 8 << 20
)

// checkBatch bounds the events of a batch, and the bytes of their data.
func (h *Handler) checkBatch(events, size int) error {
	if events > maxBatch {
		return problem.TooLarge.Because("there are more than %d events, which is what one batch may have", maxBatch)
	}
	if limit := max(maxBatchBytes, h.maxBody); size > limit {
		return problem.TooLarge.Because("the events' data has more than %d bytes in all, which is what one batch may have", limit)
	}
	return nil
}

// publishedDoc answers a request that published more than one event.
type publishedDoc struct {
	Published int         `json:"published"`
	ID        broker.ID   `json:"id,omitzero"`
	IDs       []broker.ID `json:"ids,omitempty"`
}

func newPublishedDoc(pr progress) publishedDoc {
	return publishedDoc{Published: pr.published, ID: pr.last}
}

// publishBatch publishes to channels that the body names: one object, an array
// of them, or a line of application/x-ndjson each.
func (h *Handler) publishBatch(w http.ResponseWriter, r *http.Request) error {
	who, err := h.writer(r)
	if err == nil && !h.access.Somewhere(who, access.Publish) && !h.access.Somewhere(who, access.ChangeState) {
		err = h.access.Refuse(who, access.Publish, "any channel")
	}
	if err != nil {
		return h.fail(w, err)
	}
	by, err := h.author(r, who)
	if err != nil {
		return h.fail(w, err)
	}
	switch bodies.KindOf(r) {
	case bodies.Events:
		return h.fail(w, problem.BadMedia.Because("_publish takes JSON or application/x-ndjson; publish text/event-stream to a channel"))
	case bodies.Lines:
		return h.flow(w, r, by, func(body io.Reader) opSource {
			return lineSource(body, h.maxBody, func(line []byte) ([]broker.Op, error) {
				return h.readItem(line, who)
			})
		})
	}
	body, err := bodies.Read(r, h.maxBody)
	if err == nil {
		err = bodies.CheckForm(r, body)
	}
	if err != nil {
		return h.fail(w, err)
	}
	if text := bytes.TrimLeft(body, " \t\r\n"); len(text) > 0 && text[0] == '[' {
		return h.publishArray(w, r, text, who, by)
	}
	ops, err := h.readItem(body, who)
	if err != nil {
		return h.fail(w, err)
	}
	if len(ops) == 1 {
		ops[0].Key = by.key
		return h.publishOne(w, r, by, ops[0])
	}
	return h.publishOps(w, r, ops, nil, by)
}

// publishArray publishes all events of an array, or none of them.
func (h *Handler) publishArray(w http.ResponseWriter, r *http.Request, body []byte, who *access.Caller, by author) error {
	// Validate all of it, but decode no more than may be published: see firstOf.
	if err := jsonbody.Decode(body, &[0]json.RawMessage{}); err != nil {
		return h.fail(w, err)
	}
	items := jsonbody.First(maxBatch+1, body) // each is at least one event
	ops := make([]broker.Op, 0, min(len(items), maxBatch))
	places := make([]int, 0, cap(ops)) // the item, from 1, that each op is of
	size := 0
	for i, item := range items {
		more, err := h.readItem(item, who)
		for j := range more {
			size += sizeOf(&more[j])
		}
		if err == nil {
			err = h.checkBatch(len(ops)+len(more), size)
		}
		if err != nil {
			return h.fail(w, problem.Of(err).At(problem.Progress{Event: i + 1}))
		}
		ops = append(ops, more...)
		for range more {
			places = append(places, i+1)
		}
	}
	return h.publishOps(w, r, ops, places, by)
}

// publishOps appends operations that the caller may do, all at once. places has the
// item of each operation, from 1, or is nil. Some can still fail where others succeed,
// such as by an idempotency key that was used for something else.
func (h *Handler) publishOps(w http.ResponseWriter, r *http.Request, ops []broker.Op, places []int, by author) error {
	doc := publishedDoc{IDs: make([]broker.ID, 0, len(ops))}
	numberKeys(ops, by.key, 0)
	place := func(i int) int {
		if i < len(places) {
			return places[i]
		}
		return 0
	}
	var results []broker.Result
	if len(ops) > 0 {
		var err error
		if results, err = h.append(r.Context(), by, ops); err != nil {
			return h.fail(w, problem.Of(err).At(problem.Progress{Event: place(indexOf(err))}))
		}
	}
	var refused error
	pr, replayed := progress{}, len(results) > 0
	for i, result := range results {
		if result.Err != nil {
			if refused == nil {
				refused, pr.event = result.Err, place(i)
			}
			continue
		}
		pr.published++
		pr.last = result.ID
		replayed = replayed && result.Repeated
		doc.IDs = append(doc.IDs, result.ID)
	}
	if refused != nil {
		return h.fail(w, problem.Of(refused).At(pr.problem()))
	}
	if replayed {
		markReplayed(w)
	}
	doc.Published, doc.ID = pr.published, pr.last
	return h.answer(w, doc)
}

// sizeOf is the bytes of an operation's data.
func sizeOf(op *broker.Op) int {
	if op.State != nil {
		return len(op.State.Value)
	}
	return len(op.Event.Data)
}

// indexOf is the index of the operation that an error of the broker is about, or -1.
func indexOf(err error) int {
	if op, ok := errors.AsType[*broker.OpError](err); ok {
		return op.Index
	}
	return -1
}
