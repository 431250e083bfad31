package stream

import (
	"errors"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// maxOffered bounds the pushed bytes that wait to be written, for Offer.
const maxOffered = 64 << 10

// ErrFull is returned by Offer if too many events wait to be written.
var ErrFull = errors.New("too many events of its own wait to be written to the session")

// Offer is Push for a caller that must not wait: while 64 KiB of pushed events wait to
// be written the error is ErrFull, and the event is not sent.
func (s *Session) Offer(e sse.Event) error {
	if err := broker.CheckEvent(&e); err != nil {
		return err
	}
	return s.offer(sse.AppendEvent(nil, &e))
}

// OfferBlock is Offer of events that are encoded already, as package sse does. It copies
// the block. False is any error of Offer.
func (s *Session) OfferBlock(block []byte) bool { return s.offer(block) == nil }

func (s *Session) offer(block []byte) error {
	s.mu.Lock()
	r := s.request()
	switch {
	case s.ended:
		s.mu.Unlock()
		return ErrEnded
	case len(r.pushed) > 0 && len(r.pushed)+len(block) > maxOffered:
		s.mu.Unlock()
		return ErrFull
	}
	r.pushed = append(r.pushed, block...)
	s.requested.Store(true)
	s.mu.Unlock()
	s.Wake()
	return nil
}
