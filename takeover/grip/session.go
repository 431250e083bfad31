package grip

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// Bounds of what waits while an application is asked again.
const (
	maxWaiting      = 100 // events
	maxWaitingBytes = 256 << 10
)

// session is one stream that is held: who reads it, for the filters of items, and what
// its client gets of them. Only streams with content filters or a link look at their
// events one by one here: the others get what the broker copies.
type session struct {
	caller  *access.Caller
	subs    atomic.Pointer[subscriptions]
	over    atomic.Bool // an item has said close
	hinted  atomic.Bool // an item has said hint
	decodes bool
	linked  bool // there is a next link
	logger  *slog.Logger
	asked   chan struct{} // with room for one: the application is to be asked again

	mu        sync.Mutex // guards what follows
	keepAlive KeepAlive
	last      map[string]string // the id of the newest item, by channel; no entry if the session does not check
	skipped   string            // the item that was dropped last, as channel and id
	out       []byte            // that the client gets next
	asking    bool              // the application is being asked: events wait
	waiting   []broker.Delivery
	bytes     int                 // of waiting
	lost      bool                // events did not find room to wait
	active    map[string]struct{} // channels that had an event since the application was asked
	allActive bool                // all had
	warned    bool                // an item that could not be sent was logged
}

func newSession(i *Instruct, caller *access.Caller, logger *slog.Logger) *session {
	s := &session{caller: caller, logger: logger, linked: i.Next != "", active: make(map[string]struct{})}
	s.decodes = s.linked
	for n := range i.Channels {
		s.decodes = s.decodes || len(contentFilters(i.Channels[n].Filters)) > 0
	}
	if s.linked {
		s.asked = make(chan struct{}, 1)
	}
	s.instruct(i)
	return s
}

// instruct has the session read what an answer says. The caller holds session.mu, or has
// the session for itself.
func (s *session) instruct(i *Instruct) {
	subs := newSubscriptions(i)
	s.subs.Store(subs)
	s.keepAlive = i.KeepAlive
	s.last = make(map[string]string)
	for name, c := range subs.byName {
		if c.HasPrev {
			s.last[name] = c.PrevID
		}
	}
}

// Is implements broker.Audience.
func (s *session) Is(term string) bool {
	word, channel, what, ok := cutTerm(term)
	if !ok {
		return s.caller.Is(term)
	}
	subs := s.subs.Load()
	switch word {
	case termClose:
		if _, reads := subs.byName[channel]; reads {
			s.over.Store(true)
		}
		return false
	case termHint:
		if _, reads := subs.byName[channel]; reads {
			s.hinted.Store(true)
		}
		return false
	}
	return subs.is(word, channel, what)
}

// Decodes implements stream.Rewriter.
func (s *session) Decodes() bool { return s.decodes }

// Heartbeat implements stream.Rewriter.
func (s *session) Heartbeat() (time.Duration, []byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &s.keepAlive
	if k.Every == 0 {
		return usualHeartbeat, nil, false
	}
	return k.Every, k.Data, k.Interval
}

// usualHeartbeat is that of streams whose application says none.
const usualHeartbeat = 15 * time.Second

// Rewrite implements stream.Rewriter.
func (s *session) Rewrite(dst []byte, events []broker.Delivery) ([]byte, bool) {
	if !s.decodes {
		return dst, s.over.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) > 0 {
		dst, s.out = append(dst, s.out...), nil
	}
	for n := range events {
		if s.asking {
			s.wait(&events[n])
			continue
		}
		dst = s.deliver(dst, &events[n])
	}
	if s.hinted.Swap(false) && s.linked {
		s.waiting, s.bytes, s.lost = nil, 0, false // the answer has what they say
		s.ask()
	}
	return dst, s.over.Load()
}

// ask has the application asked again. session.mu is held.
func (s *session) ask() {
	s.asking = true
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// wait keeps an event until the application has answered. session.mu is held.
func (s *session) wait(e *broker.Delivery) {
	size := len(e.Event.Data) + len(e.Event.Type) + len(e.Event.ID)
	if len(s.waiting) >= maxWaiting || s.bytes+size > maxWaitingBytes {
		s.lost = true
		return
	}
	own := *e
	own.Event.Data = append([]byte(nil), e.Event.Data...)
	s.waiting, s.bytes = append(s.waiting, own), s.bytes+size
}

// deliver appends what the client gets of an event. session.mu is held.
func (s *session) deliver(dst []byte, e *broker.Delivery) []byte {
	if e.State != nil {
		return dst // values are nothing that an application with GRIP knows of
	}
	subs := s.subs.Load()
	c := subs.byName[e.Channel]
	if c == nil {
		return dst // it is not read any more
	}
	of := idsOf(e.Filter)
	if of.id != "" && !s.accept(e.Channel, &of) {
		if s.asking {
			s.wait(e)
		}
		return dst
	}
	block, err := subs.render(c, e, func(channel string) (string, bool) { return s.lastID(subs, e.Channel, channel, of.id) })
	if err != nil {
		if !s.warned {
			s.warned = true
			s.logger.Warn("an item cannot be sent as its filters ask, and is left out; later ones of this stream are not logged", slog.String("channel", e.Channel), slog.Any("reason", err))
		}
		return dst
	}
	if s.active[e.Channel] = struct{}{}; len(s.active) >= len(subs.byName) {
		s.allActive = true
	}
	return append(dst, block...)
}

// accept decides about an item with an id, and notes it. session.mu is held.
func (s *session) accept(channel string, of *ids) bool {
	key := channel + " " + of.id
	if of.rest {
		return s.skipped != key
	}
	last, checks := s.last[channel]
	switch {
	case !checks:
	case of.id == last: // it was in what the application has answered
		s.skipped = key
		return false
	case of.hasPrev && of.prev != last:
		s.skipped = key
		s.ask()
		return false
	default:
		s.last[channel] = of.id
	}
	s.skipped = ""
	return true
}

// lastID is the id of a channel of the application, for an item with an id that is about
// to be sent. session.mu is held.
func (s *session) lastID(subs *subscriptions, of, channel, id string) (string, bool) {
	name, err := ChannelName(channel)
	if err != nil || subs.byName[name] == nil {
		return "", false
	}
	if name == of && id != "" {
		return id, true
	}
	last, ok := s.last[name]
	return last, ok
}

// render is an event as the filters of its channel have it.
func (s *subscriptions) render(c *Channel, e *broker.Delivery, lastID func(string) (string, bool)) (block []byte, err error) {
	block = sse.AppendEvent(nil, &e.Event)
	if !isTemplate(e.Filter) {
		return block, nil
	}
	for _, f := range c.Filters {
		switch f {
		case buildID:
			block, err = s.addID(nil, block, lastID)
		case varSubst:
			block, err = s.substitute(nil, block)
		}
		if err != nil {
			return nil, err
		}
	}
	return block, nil
}

// begin has events wait for the application's answer.
func (s *session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = true
}

// since begins the time of the next link anew, and reports whether all channels have had
// an event in the one that is over: then there is no need to ask.
func (s *session) since() (allActive bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	allActive = s.allActive
	clear(s.active)
	s.allActive = false
	if !allActive {
		s.asking = true
	}
	return allActive
}

// lastIDs says which ids the client has, for Grip-Last.
func (s *session) lastIDs() (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	subs := s.subs.Load()
	for _, name := range subs.names() {
		if last, ok := s.last[name]; ok {
			lines = append(lines, subs.byName[name].Name+"; last-id="+last)
		}
	}
	return lines
}

// answered has the client get body, and then what has waited and is not in it, as i says;
// i is nil if nothing came of asking. Where items are missing still, it asks again.
// False: the client has not taken what was answered before, and is too slow for more.
func (s *session) answered(i *Instruct, body []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) > 0 && len(s.out)+len(body) > maxPagesBytes {
		return false
	}
	if i != nil {
		s.instruct(i)
	}
	s.out = append(s.out, body...)
	s.asking, s.skipped = false, ""
	s.active, s.allActive = make(map[string]struct{}), false
	waiting := s.waiting
	s.waiting, s.bytes = nil, 0
	if s.lost { // newer ones are missing, whatever has waited
		s.lost = false
		s.ask()
		return true
	}
	for n := range waiting {
		e := &waiting[n]
		of := idsOf(e.Filter)
		if s.isOld(waiting[n:], e.Channel, &of) {
			s.skipped = e.Channel + " " + of.id
			continue
		}
		s.out = s.deliver(s.out, e)
		if s.asking {
			s.waiting = waiting[n:] // the next answer may come before them
			return true
		}
	}
	return true
}

// isOld reports whether an item that has waited is in the application's answer: a later
// one follows what the answer ends with, or is that. session.mu is held.
func (s *session) isOld(rest []broker.Delivery, channel string, of *ids) bool {
	last, checks := s.last[channel]
	if !checks || of.id == "" || of.rest || of.id == last || of.hasPrev && of.prev == last {
		return false
	}
	for n := range rest[1:] {
		if next := idsOf(rest[n+1].Filter); rest[n+1].Channel == channel && (next.id == last || next.hasPrev && next.prev == last) {
			return true
		}
	}
	return false
}
