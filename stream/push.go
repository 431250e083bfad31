package stream

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// maxPushed bounds what Push holds for a session that is slow to write.
const maxPushed = 256 << 10

// ErrEnded is the error of a Push to a stream that has ended.
var ErrEnded = errors.New("the stream has ended")

// Push sends an event to this session alone. It is in no history: a client
// that reconnects does not get it again. Push waits while the session has much
// to write, until ctx ends; nil means that the event will be written unless
// the connection breaks. Events are sent in the order of the calls.
func (s *Session) Push(ctx context.Context, e sse.Event) error {
	if err := broker.CheckEvent(&e); err != nil {
		return err
	}
	block := sse.AppendEvent(nil, &e)
	for {
		room, ok := s.tryPush(block)
		if ok {
			s.Wake()
			return nil
		}
		if room == nil {
			return ErrEnded
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer takes block if there is room, else says what to wait for; nil when the
// stream has ended.
func (s *Session) tryPush(block []byte) (room <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, false
	}
	if len(s.pushed) > 0 && len(s.pushed)+len(block) > maxPushed {
		if s.pushRoom == nil {
			s.pushRoom = make(chan struct{})
		}
		return s.pushRoom, false
	}
	s.pushed = append(s.pushed, block...)
	s.requested.Store(true)
	return nil, true
}

// Iterate pushes the events of seq, one after the other, until there are no
// more, one is refused, the stream ends or ctx does.
func (s *Session) Iterate(ctx context.Context, seq iter.Seq[sse.Event]) error {
	for e := range seq {
		if err := s.Push(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// Stream pushes the events of a text/event-stream body as they arrive, until
// it ends. Ids shaped like positions mean nothing here and are dropped.
func (s *Session) Stream(ctx context.Context, r io.Reader) error {
	decoder := sse.NewDecoder(r, maxPushed)
	for {
		e, err := decoder.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if broker.LooksLikeID(e.ID) || strings.HasPrefix(e.ID, "evstream.") {
			e.ID = ""
		}
		if err := s.Push(ctx, e); err != nil {
			return err
		}
	}
}
