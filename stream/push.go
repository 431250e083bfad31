package stream

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// maxPushed bounds the pushed bytes that wait to be written, per session.
const maxPushed = 256 << 10

// ErrEnded is returned by Push, Iterate and Stream if the stream has ended.
var ErrEnded = errors.New("the stream has ended")

// Push sends an event to this session only. It is in no history: a client that
// reconnects does not get it again. While 256 KiB of pushed events wait to be
// written Push blocks, until ctx ends. Events are sent in the order of the calls.
//
// A nil error means that the event will be written unless the connection breaks
// or the stream ends. Otherwise it is ErrEnded, the error of ctx, or that of
// broker.CheckEvent. Push does not keep e.
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

// PushFirst sends events to this session before all that Push does, for a stream that has
// not begun. It does not block, however many they are. It sends all, or none and returns
// the error of Push for the first that is wrong.
func (s *Session) PushFirst(events []sse.Event) error {
	var block []byte
	for i := range events {
		if err := broker.CheckEvent(&events[i]); err != nil {
			return err
		}
		block = sse.AppendEvent(block, &events[i])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrEnded
	}
	if len(block) > 0 {
		r := s.request()
		r.pushed = append(block, r.pushed...)
		s.requested.Store(true)
	}
	return nil
}

// tryPush queues block if there is room for it. If not, it returns a chan that is
// closed when there may be room, or nil if the stream has ended.
func (s *Session) tryPush(block []byte) (room <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, false
	}
	r := s.request()
	if len(r.pushed) > 0 && len(r.pushed)+len(block) > maxPushed {
		if r.pushRoom == nil {
			r.pushRoom = make(chan struct{})
		}
		return r.pushRoom, false
	}
	r.pushed = append(r.pushed, block...)
	s.requested.Store(true)
	return nil, true
}

// Iterate pushes the events of seq in order. It returns nil after the last one,
// and stops at the first error of Push.
func (s *Session) Iterate(ctx context.Context, seq iter.Seq[sse.Event]) error {
	for e := range seq {
		if err := s.Push(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// Stream pushes the events of a text/event-stream body as they arrive. It returns
// nil at the end of the body, and stops at the first error of Push or of reading:
// io.ErrUnexpectedEOF if the body ends within an event. An id that
// broker.CheckEvent would refuse is removed, because the client could not resume from it.
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
		if !broker.UsableID(e.ID) {
			e.ID = ""
		}
		if err := s.Push(ctx, e); err != nil {
			return err
		}
	}
}
