package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// opSource returns the operations of the next line or event of a body, and io.EOF at
// its end. It sets the line or the event in pr.
type opSource func(pr *progress) ([]broker.Op, error)

// publishFlowing publishes the events of a body as they arrive, and answers when the
// body ends. If the body is cut, the events before the cut stay published.
func (h *Handler) publishFlowing(w http.ResponseWriter, r *http.Request, op broker.Op, by author, kind bodies.Kind) error {
	if op.Event.ID != "" {
		return h.fail(w, problem.BadParameter.Because("id names one event, and the body has many"))
	}
	closes := op.Close != nil
	op.Kind, op.Close = broker.KindEvent, nil
	return h.flow(w, r, by, func(body io.Reader) opSource {
		var source opSource
		if kind == bodies.Events {
			source = eventSource(body, op, h.maxBody, h.maxRetry(by.who))
		} else {
			source = lineSource(body, h.maxBody, func(line []byte) ([]broker.Op, error) {
				next := op
				next.Event.Data = bytes.Clone(line)
				return []broker.Op{next}, nil
			})
		}
		if closes {
			source = thenClose(source, op.Channel)
		}
		return source
	})
}

// thenClose closes a channel where a source ends. One that fails does not.
func thenClose(source opSource, name string) opSource {
	over := false
	return func(pr *progress) ([]broker.Op, error) {
		if over {
			return nil, io.EOF
		}
		ops, err := source(pr)
		if over = errors.Is(err, io.EOF); over {
			return []broker.Op{{Kind: broker.KindClose, Channel: name, Close: &broker.CloseOp{}}}, nil
		}
		return ops, err
	}
}

// flow publishes what a source reads from the body of a request.
func (h *Handler) flow(w http.ResponseWriter, r *http.Request, by author, open func(io.Reader) opSource) error {
	u := h.longRequest(w, r, streamedBodyIdle)
	defer u.done()
	body := u.flow(r.Body, h.hub.Exit())
	defer body.close() // also if something panics
	// Events that were sent are published even if the client has left.
	pr, replayed, err := h.publishAll(context.WithoutCancel(r.Context()), body, open, by)
	body.close()
	if err != nil {
		bodies.Abandon(w, r)
		p := problem.Of(err)
		if p.Kind == problem.Timeout && body.interrupted() {
			p = problem.Unavailable.Because("%w; go on with what was not published", hub.ErrExiting)
		}
		return u.fail(h, w, p.At(pr.problem()))
	}
	_ = u.ctrl.SetReadDeadline(time.Time{})
	defer u.answering()()
	if replayed {
		markReplayed(w)
	}
	return h.answer(w, newPublishedDoc(pr))
}

// progress is how far a body of many events was published.
type progress struct {
	published int
	last      broker.ID // of the last event, zero for none
	line      int       // of the body, from 1; 0 for none
	event     int       // of the body, from 1; 0 for none
}

// problem is the progress as a problem tells it.
func (p progress) problem() problem.Progress {
	told := problem.Progress{Published: p.published, Line: p.line, Event: p.event}
	if !p.last.IsZero() {
		told.ID = p.last.String()
	}
	return told
}

// numberKeys gives each operation its own key: that of the request, a space, and 0 for
// its first event, 1 for the next. A key that a client sends has no space, so that none
// is one of these.
func numberKeys(ops []broker.Op, key broker.Key, first int) {
	if key.Key == "" {
		return
	}
	for i := range ops {
		ops[i].Key = broker.Key{Identity: key.Identity, Key: key.Key + " " + strconv.Itoa(first+i)}
	}
}

// lineSource reads a body line by line. Empty lines are skipped; read must not
// keep the line.
func lineSource(body io.Reader, limit int, read func(line []byte) ([]broker.Op, error)) opSource {
	lines := newLineReader(body, limit)
	return func(pr *progress) ([]broker.Op, error) {
		for {
			line, err := lines.next()
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return nil, err
			}
			pr.line++
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			if len(line) > 0 {
				return read(line)
			}
		}
	}
}

// lineReader splits a body into lines of at most limit bytes.
type lineReader struct {
	r     *bufio.Reader
	limit int
	long  []byte // a line that is longer than the reader's buffer
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReader(r), limit: limit}
}

// next returns the next line without its end, valid until the call after it.
// The last one comes with io.EOF if it has no end.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		line := part
		if len(l.long) > 0 || errors.Is(err, bufio.ErrBufferFull) {
			l.long = append(l.long, part...)
			line = l.long
		}
		switch trimmed := trimLineEnd(line); {
		case len(trimmed) > l.limit:
			return nil, problem.TooLarge.Because("a line has more than %d bytes, which is what is allowed", l.limit)
		case !errors.Is(err, bufio.ErrBufferFull):
			return trimmed, err
		}
	}
}

func trimLineEnd(line []byte) []byte {
	line, ended := bytes.CutSuffix(line, []byte("\n"))
	if ended {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	return line
}

// eventSource reads the events of a text/event-stream. Ids that a hub has assigned, or
// that would not come back from a client as they are, are dropped. A retry is at most
// maxRetry.
func eventSource(body io.Reader, op broker.Op, limit int, maxRetry int64) opSource {
	decoder := sse.NewDecoder(body, limit)
	return func(pr *progress) ([]broker.Op, error) {
		event, err := decoder.Next()
		if errors.Is(err, io.EOF) {
			return nil, err
		}
		pr.event++
		if err != nil {
			return nil, err
		}
		if !broker.UsableID(event.ID) {
			event.ID = ""
		}
		if event.Type == "" {
			event.Type = op.Event.Type
		}
		if event.Retry = min(event.Retry, maxRetry); event.Retry == 0 {
			event.Retry = op.Event.Retry
		}
		next := op
		next.Event = event
		return []broker.Op{next}, checkFields(&next)
	}
}
