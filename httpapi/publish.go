package httpapi

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/httpapi/internal/audience"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// Bounds of an event's fields beside its data; that of its id is sse.MaxID.
const (
	maxTypeLen   = 4 << 10
	maxExceptLen = 255
)

// writer returns who makes a request that writes. It refuses a request by a page of a
// foreign origin, and a compressed body, before the body is read.
func (h *Handler) writer(r *http.Request) (*access.Caller, error) {
	if err := h.cors.Check(r); err != nil {
		return nil, err
	}
	who, err := h.identify(r)
	if err == nil {
		err = h.cors.CheckWrite(r, who)
	}
	if err != nil {
		return nil, err
	}
	for _, coding := range r.Header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return nil, problem.BadMedia.Because("Content-Encoding %q is not served; send the body as it is", problem.Clip(coding))
		}
	}
	return h.cors.Vouch(r, who), nil
}

// author is who publishes: whose idempotency keys, and whose rate counts.
type author struct {
	key       broker.Key
	publisher string       // of hub.Publisher
	owner     broker.Owner // in whose share it counts what is published
	who       *access.Caller
	request   *http.Request // is valid until the handler returns
}

// author returns who publishes. A publisher above its rate is refused, before the body
// is read.
func (h *Handler) author(r *http.Request, who *access.Caller) (author, error) {
	key, err := keyOf(r, who)
	if err != nil {
		return author{}, err
	}
	client := h.host.ClientIP(r)
	by := author{key: key, who: who, request: r, publisher: hub.Publisher(who, client), owner: broker.OwnerOf(hub.ShareOf(who, client))}
	return by, h.hub.MayPublish(by.publisher, 0, 0)
}

// append publishes operations, if the publisher still may, is within its rate, and the
// events follow the rules of their channels. Only patchState does not use it: the
// broker computes its value; and together, which appends what many lines say.
func (h *Handler) append(ctx context.Context, by author, ops []broker.Op) (results []broker.Result, err error) {
	defer func() { h.Published(ctx, ops, results, err) }()
	size := 0
	for i := range ops {
		size += sizeOf(&ops[i])
	}
	if err := h.admit(ctx, by, ops, size); err != nil {
		return nil, err
	}
	results, err = h.hub.Broker().Publish(ctx, ops)
	h.hub.NotPublished(by.publisher, refusedOf(ops, size, results, err))
	return results, err
}

// admit decides whether operations may be appended whose data has a size, and counts
// them against the publisher's rates.
func (h *Handler) admit(ctx context.Context, by author, ops []broker.Op, size int) error {
	for i := range ops {
		ops[i].Owner = by.owner
	}
	if err := h.mayAppend(by, ops, size); err != nil {
		return err
	}
	err := h.hub.CheckRules(ctx, ops)
	if err != nil {
		h.hub.NotPublished(by.publisher, size)
	}
	return err
}

// refusedOf is how many bytes of operations of a size were not published.
func refusedOf(ops []broker.Op, size int, results []broker.Result, err error) (refused int) {
	switch {
	case errors.Is(err, broker.ErrUncertain):
		return 0
	case err != nil:
		return size
	}
	for i := range results {
		if results[i].Err != nil {
			refused += sizeOf(&ops[i])
		}
	}
	return refused
}

// mayAppend decides whether a publisher still may publish operations, and counts them
// and the bytes of their data against its rates.
func (h *Handler) mayAppend(by author, ops []broker.Op, size int) error {
	// Since the request began its credential may have expired, and the configuration
	// may have been replaced.
	_, who, err := h.follow(by.request, by.who, func(next *Handler, r *http.Request) (*access.Caller, error) {
		who, err := next.writer(r)
		for i := 0; err == nil && i < len(ops); i++ {
			err = next.access.Require(who, verbOf(&ops[i]), ops[i].Channel)
		}
		return who, err
	})
	if err != nil {
		return err
	}
	if err := h.hub.MayGoOn(who, time.Now()); err != nil {
		return err
	}
	return h.hub.MayPublish(by.publisher, len(ops), size)
}

// verbOf is the verb of access rules that an operation needs.
func verbOf(op *broker.Op) string {
	switch op.Kind {
	case broker.KindState:
		return access.ChangeState
	case broker.KindPurge:
		return access.Purge
	}
	return access.Publish
}

// publisher returns who publishes to name, or purges it, if they may.
func (h *Handler) publisher(r *http.Request, verb, name string) (author, error) {
	who, err := h.writer(r)
	if err == nil {
		err = h.access.Require(who, verb, name)
	}
	if err != nil {
		return author{}, err
	}
	return h.author(r, who)
}

// publish publishes the body to a channel, or to all channels beneath a name.
func (h *Handler) publish(w http.ResponseWriter, r *http.Request, name string, q query.Query) error {
	by, err := h.publisher(r, access.Publish, name)
	if err != nil {
		return h.fail(w, err)
	}
	op, err := opOf(name, q)
	if err == nil {
		err = h.checkRetry(by.who, &op)
	}
	// The broker checks these, too, but when the body has come.
	if err == nil {
		err = channel.CheckTarget(name)
	}
	if err == nil {
		err = broker.CheckEvent(&op.Event)
	}
	if err != nil {
		return h.fail(w, err)
	}
	if op.Close != nil && channel.IsBeneath(name) {
		return h.fail(w, problem.BadParameter.Because("close closes one channel, and %q is a name beneath which there may be many", name))
	}
	if kind := bodies.KindOf(r); kind != bodies.Raw {
		return h.publishFlowing(w, r, op, by, kind)
	}
	if op.Event.Data, err = bodies.Read(r, h.maxBody); err == nil {
		err = bodies.CheckForm(r, op.Event.Data)
	}
	if err != nil {
		return h.fail(w, err)
	}
	if op.Close != nil {
		op.Close.Event = len(op.Event.Data) > 0 || q.Has("event") || q.Has("id") || q.Has("retry")
	}
	op.Key = by.key
	return h.publishOne(w, r, by, op)
}

// publishOne appends one operation and answers with its id.
func (h *Handler) publishOne(w http.ResponseWriter, r *http.Request, by author, op broker.Op) error {
	results, err := h.append(r.Context(), by, []broker.Op{op})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return h.fail(w, err)
	}
	if results[0].Repeated {
		markReplayed(w)
	}
	body := append(make([]byte, 0, 64), `{"id":"`...)
	body = results[0].ID.AppendTo(body)
	body = append(body, `"}`...)
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, http.StatusOK, body)
	return nil
}

// purge removes what a channel keeps: also what others have published.
func (h *Handler) purge(w http.ResponseWriter, r *http.Request, name string) error {
	by, err := h.publisher(r, access.Purge, name)
	if err != nil {
		return h.fail(w, err)
	}
	return h.publishOne(w, r, by, broker.Op{Kind: broker.KindPurge, Channel: name, Key: by.key})
}

// markReplayed marks the answer as that of an earlier request with the same key.
func markReplayed(w http.ResponseWriter) { w.Header().Set("Idempotency-Replayed", "true") }

// opOf is an event to name with the fields of the query, or what closes it.
func opOf(name string, q query.Query) (broker.Op, error) {
	op := broker.Op{Kind: broker.KindEvent, Channel: name}
	if q == "" {
		return op, nil
	}
	closes, err := q.Flag("close", false)
	if err != nil {
		return op, err
	}
	if closes {
		op.Kind, op.Close = broker.KindClose, &broker.CloseOp{}
	}
	if op.Event.Type, _, err = q.One("event"); err != nil {
		return op, err
	}
	id, given, err := q.One("id")
	switch {
	case err != nil:
		return op, err
	case given && id == "":
		return op, errNoID
	}
	op.Event.ID = id
	to, err := q.List("to")
	if err != nil {
		return op, err
	}
	except, err := q.List("except")
	if err == nil {
		err = audience.Set(&op, to, except)
	}
	if err != nil {
		return op, err
	}
	retry, given, err := q.One("retry")
	if err != nil {
		return op, err
	}
	if given {
		if op.Event.Retry, err = parseRetry(retry); err != nil {
			return op, err
		}
	}
	return op, checkFields(&op)
}

// errNoID is the error of an id that is given, and has nothing.
var errNoID = problem.BadEvent.Because("the event's id is empty: leave it out, or give it 1 to %d bytes", sse.MaxID)

// TrustedRetry is the longest retry of an event of a backend, in milliseconds.
const TrustedRetry = int64(time.Hour / time.Millisecond)

// maxRetry is the longest retry that an event of a caller may have, in milliseconds. It
// holds for the whole connection of each reader, also for its other channels. So it is
// what the handler itself asks for at most; a backend, which is a named bearer or came
// over the admin endpoint, may ask for more.
func (h *Handler) maxRetry(who *access.Caller) int64 {
	longest := h.stream.RetryMax.Milliseconds()
	if who.Admin || who.Name != "" {
		longest = max(longest, TrustedRetry)
	}
	return min(max(longest, 1), sse.MaxRetry)
}

func (h *Handler) checkRetry(who *access.Caller, op *broker.Op) error {
	if longest := h.maxRetry(who); op.Event.Retry > longest {
		return problem.BadEvent.Because("retry is a whole number of milliseconds from 1 to %d here, not %d", longest, op.Event.Retry)
	}
	return nil
}

// parseRetry reads a number of milliseconds: digits, and nothing else. Its upper bound
// is that of checkRetry.
func parseRetry(s string) (int64, error) {
	ms, err := strconv.ParseUint(s, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		ms, err = math.MaxInt64, nil
	}
	if err != nil || ms < 1 {
		return 0, problem.BadEvent.Because("retry is a whole number of milliseconds, at least 1, not %q", problem.Clip(s))
	}
	return int64(ms), nil
}

// checkFields bounds the fields beside the data, which the broker does not.
func checkFields(op *broker.Op) error {
	if len(op.Event.Type) > maxTypeLen {
		return problem.BadEvent.Because("the event's type has %d bytes, at most %d are allowed", len(op.Event.Type), maxTypeLen)
	}
	return nil
}

// keyOf reads the idempotency key. Each caller has keys of its own.
func keyOf(r *http.Request, who *access.Caller) (broker.Key, error) {
	values := r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return broker.Key{}, nil
	}
	key := values[0]
	visible := strings.IndexFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
	if len(values) > 1 || key == "" || len(key) > broker.MaxKeyLen || !visible {
		return broker.Key{}, problem.BadKey.Because("Idempotency-Key is one value of 1 to %d visible ASCII characters", broker.MaxKeyLen)
	}
	return broker.Key{Identity: who.Identity(), Key: key}, nil
}
