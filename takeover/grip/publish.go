package grip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/ttlmap"
	"github.com/evstream/caddy-evstream/problem"
)

// How long the id of an item is remembered, and how many are.
const (
	idWindow = time.Minute
	maxIDs   = 100_000
)

// IDs remembers the ids of items, by which repeated ones are told. It lasts as long as
// its hub, and is safe for concurrent use.
type IDs struct {
	mu   sync.Mutex // guards seen
	seen ttlmap.Map[string, struct{}]
}

// NewIDs returns an empty IDs.
func NewIDs() *IDs { return &IDs{seen: ttlmap.Map[string, struct{}]{Limit: maxIDs}} }

// take reports whether an item is new, and remembers it. Where there is no room for more
// ids, every item is new.
func (s *IDs) take(i *item, now time.Time) bool {
	if i.id == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := i.channel + " " + i.id
	if _, known := s.seen.Get(key, now); known {
		return false
	}
	s.seen.Set(key, struct{}{}, now.Add(idWindow), now)
	return true
}

// forget takes back what take has remembered.
func (s *IDs) forget(items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if i.id != "" {
			s.seen.Remove(i.channel + " " + i.id)
		}
	}
}

// Publisher serves requests to publish. It is immutable and safe for concurrent use.
type Publisher struct {
	Hub    *hub.Hub
	IDs    *IDs
	Keys   []*Keys // any of them does
	Logger *slog.Logger
	// Published is told what became of what was published: see httpapi.Tracer. nil: nobody.
	Published func(ctx context.Context, ops []broker.Op, results []broker.Result, err error)
}

// ServeHTTP implements http.Handler, for a path that ends in /publish/ or /publish.
func (p *Publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", "POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		answer(w, http.StatusMethodNotAllowed, "publishing is POST")
		return
	}
	inJSON, ok := accepts(r.Header["Accept"])
	if !ok {
		answer(w, http.StatusNotAcceptable, "the answer is text/plain or application/json")
		return
	}
	if err := p.mayPublish(r); err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="grip"`)
		answer(w, http.StatusUnauthorized, err.Error())
		return
	}
	status, err := p.publish(w, r)
	switch {
	case err != nil:
		answer(w, status, err.Error())
	case inJSON:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"message":"Published"}`+"\n")
	default:
		answer(w, http.StatusOK, "Published")
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") //nolint:gosec // plain text, with nosniff
}

// accepts reads Accept: whether JSON is wanted rather than text, and whether one of both is.
func accepts(lines []string) (inJSON, ok bool) {
	if len(lines) == 0 {
		return false, true
	}
	text, json := false, false
	for element := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, _, _ := strings.Cut(element, ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "text/plain", "text/*", "*/*":
			text = true
		case "application/json", "application/*":
			json = true
		}
	}
	return json && !text, json || text
}

func (p *Publisher) mayPublish(r *http.Request) (err error) {
	for _, k := range p.Keys {
		if err = k.MayPublish(r, time.Now()); err == nil {
			return nil
		}
	}
	return err
}

// publish publishes the items of a request. The status is that of the error.
func (p *Publisher) publish(w http.ResponseWriter, r *http.Request) (int, error) {
	for _, coding := range r.Header["Content-Encoding"] {
		if !strings.EqualFold(coding, "identity") {
			return http.StatusUnsupportedMediaType, fmt.Errorf("Content-Encoding %s is not done here", strconv.Quote(clip(coding)))
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", MaxBody)
	case err != nil:
		return http.StatusBadRequest, errors.New("the body could not be read")
	}
	items, err := readItems(body)
	if err != nil {
		return http.StatusBadRequest, err
	}
	now := time.Now()
	var ops []broker.Op
	for n := range items {
		more, err := items[n].ops()
		if err != nil {
			return http.StatusBadRequest, fmt.Errorf("items[%d]: %w", n, err)
		}
		ops = append(ops, more...)
		if len(ops) > maxEvents {
			return http.StatusBadRequest, fmt.Errorf("the items have more than %d events", maxEvents)
		}
	}
	taken := make([]*item, 0, len(items))
	kept := ops[:0]
	var events []broker.Op // of kept
	at := 0
	for n := range items {
		i := &items[n]
		count := len(i.events)
		if p.IDs.take(i, now) {
			taken = append(taken, i)
			kept = append(kept, ops[at:at+count]...)
			if i.action == actionSend {
				events = append(events, ops[at:at+count]...)
			}
		}
		at += count
	}
	if len(kept) == 0 {
		return 0, nil
	}
	if err := p.append(r.Context(), kept, events); err != nil {
		if !errors.Is(err, broker.ErrUncertain) {
			p.IDs.forget(taken)
		}
		of := problem.Of(err)
		if of.Status() >= http.StatusInternalServerError {
			p.Logger.Error("publishing for an application", slog.Any("error", err))
		}
		return of.Status(), of
	}
	return 0, nil
}

// append publishes operations, all or none. events are those that readers get.
func (p *Publisher) append(ctx context.Context, ops, events []broker.Op) (err error) {
	var results []broker.Result
	if p.Published != nil {
		defer func() { p.Published(ctx, ops, results, err) }()
	}
	if err := p.Hub.CheckRules(ctx, events); err != nil {
		return err
	}
	results, err = p.Hub.Broker().Publish(ctx, ops)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// ops are what an item adds to the log.
func (i *item) ops() ([]broker.Op, error) {
	filter, err := i.audience()
	if err != nil {
		return nil, err
	}
	ops := make([]broker.Op, len(i.events))
	for n := range i.events {
		ops[n] = broker.Op{Kind: broker.KindEvent, Channel: i.channel, Event: i.events[n], Filter: filter}
		if n > 0 && i.id != "" {
			ops[n].Filter = i.rest(filter)
		}
	}
	return ops, nil
}
