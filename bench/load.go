//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// publisher publishes over one connection, one event at a time.
type publisher struct {
	link    *link
	who     int
	host    string
	idle    bool
	request []byte
	data    []byte
	answer  response
	body    []byte // of the last answer

	path     string         // of the channel
	answered func(at int64) // called with the time of each answer; may be nil
}

// maxAnswer bounds what a publisher keeps of an answer.
const maxAnswer = 4 << 10

// publish sends an event.
func (p *publisher) publish(size int, number uint32, at int64) error {
	p.data = appendEvent(p.data[:0], size, p.who, number, at)
	r := append(p.request[:0], "POST "+p.path+" HTTP/1.1\r\nHost: "...)
	r = append(r, p.host...)
	r = append(r, "\r\nContent-Type: text/plain\r\nContent-Length: "...)
	r = strconv.AppendInt(r, int64(len(p.data)), 10)
	r = append(r, "\r\n\r\n"...)
	p.request = append(r, p.data...)
	p.idle, p.answer, p.body = false, response{kept: p.answer.kept[:0]}, p.body[:0]
	return p.link.send(p.request)
}

// take reads the answer.
func (p *publisher) take(b []byte, at int64) error {
	for len(b) > 0 {
		var piece []byte
		var err error
		if piece, b, err = p.answer.next(b); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
		if len(p.body)+len(piece) > maxAnswer {
			return errors.New("publishing: the answer is too long")
		}
		p.body = append(p.body, piece...)
	}
	if p.answer.phase != ended {
		return nil
	}
	if p.answer.status != 200 {
		return fmt.Errorf("publishing: status %d: %q", p.answer.status, clip(p.body))
	}
	p.idle = true
	if p.answered != nil {
		p.answered(at)
	}
	return nil
}

// id is the event id in the last answer.
func (p *publisher) id() (string, error) {
	var answer struct{ ID string }
	if err := json.Unmarshal(p.body, &answer); err != nil || answer.ID == "" {
		return "", fmt.Errorf("publishing: the answer names no id: %q", clip(p.body))
	}
	return answer.ID, nil
}

// connectPublishers opens n connections for publishers.
func (g *generator) connectPublishers(address string, n int) error {
	for who := range n {
		p := &publisher{who: who, host: address, idle: true, path: path}
		p.link = &link{take: p.take}
		g.publishers = append(g.publishers, p)
		if err := g.dial(address, p.link); err != nil {
			return err
		}
	}
	return g.until("publishers connect", func() bool {
		for _, p := range g.publishers {
			if !p.link.greeted {
				return false
			}
		}
		return true
	})
}

// subscriber reads a stream from a raw socket.
type subscriber struct {
	*checker
	stream response
}

// take reads a piece of the stream.
func (s *subscriber) take(b []byte, at int64) error {
	for len(b) > 0 {
		piece, rest, err := s.stream.next(b)
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", s.name, err)
		}
		if s.stream.phase != inHead && s.stream.status != 200 {
			return fmt.Errorf("subscriber %d: status %d: %q", s.name, s.stream.status, clip(rest))
		}
		if err := s.checker.take(piece, at); err != nil {
			return err
		}
		if s.stream.phase == ended {
			return fmt.Errorf("subscriber %d: the server ends the stream", s.name)
		}
		b = rest
	}
	return nil
}

// subscription is the request for a stream.
func subscription(host, path, cursor string) string {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/event-stream\r\n"
	if cursor != "" {
		request += "Last-Event-ID: " + cursor + "\r\n"
	}
	return request + "\r\n"
}

// subscribe opens n streams and waits until all are subscribed. They begin now, or
// resume after an event id; had are the last events before that, of each publisher.
func (g *generator) subscribe(address string, n int, after string, had [maxPublishers]uint32) error {
	hello := []byte(subscription(address, path, after))
	before, _, _ := g.tally.counts()
	opened := func() int {
		ready, _, _ := g.tally.counts()
		return ready - before
	}
	for i := range n {
		s := &subscriber{checker: newChecker(g.tally, i, had)}
		if err := g.dial(address, &link{hello: hello, take: s.take}); err != nil {
			return err
		}
		if err := g.until("subscribers connect", func() bool { return i-opened() < opening }); err != nil {
			return err
		}
	}
	g.readers += n
	return g.until("subscribers are ready", func() bool { return opened() == n })
}

// stall opens n streams that resume after an event id, and stops reading them
// at their first bytes.
func (g *generator) stall(address string, n int, after string) error {
	hello := []byte(subscription(address, path, after))
	stalled := 0
	for range n {
		l := &link{hello: hello}
		l.take = func(b []byte, _ int64) error {
			if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
				return fmt.Errorf("a subscriber that is to stall: %q", clip(b))
			}
			stalled++
			l.paused = true
			return nil
		}
		if err := g.dial(address, l); err != nil {
			return err
		}
	}
	return g.until("subscribers stall", func() bool { return stalled == n })
}

// plan says how to publish: at a rate, or as fast as a window allows; for a time,
// or a number of events.
type plan struct {
	publishers int
	size       int // of an event's data, in bytes
	rate       int // events a second; 0: back to back
	window     int // bounds the events that not all subscribers have got yet
	events     int
	duration   time.Duration
}

// drive executes a plan and waits until every subscriber has every event. It
// returns the number of deliveries, and how long they took.
func (g *generator) drive(p plan) (deliveries int, took time.Duration, err error) {
	begun, sent := g.tally.now(), 0
	_, before, _ := g.tally.counts()
	for {
		now := g.tally.now()
		if sent > 0 && (sent == p.events || p.duration > 0 && now-begun >= p.duration.Microseconds()) {
			break
		}
		if now-begun > (p.duration + patience).Microseconds() {
			return 0, 0, fmt.Errorf("publishing: %d events within %v", sent, p.duration+patience)
		}
		wait := 100 * time.Millisecond
		if due := begun + int64(sent)*1e6/int64(max(p.rate, 1)); p.rate > 0 && due > now {
			wait = time.Duration(due-now) * time.Microsecond
		} else if publisher := g.free(p, sent, before); publisher != nil {
			at := now
			if p.rate > 0 {
				at = due // a late publisher must not make the server look faster
			}
			g.numbers[publisher.who]++
			if err := publisher.publish(p.size, g.numbers[publisher.who], at); err != nil {
				return 0, 0, err
			}
			sent++
			wait = 0
		}
		if err := g.turn(wait); err != nil {
			return 0, 0, err
		}
	}
	want := sent * g.readers
	err = g.until("deliveries", func() bool {
		_, delivered, _ := g.tally.counts()
		return delivered-before >= want && g.allIdle()
	})
	last := g.tally.newest()
	if err == nil {
		err = g.settle(5 * time.Millisecond)
	}
	_, after, _ := g.tally.counts()
	if deliveries = after - before; err != nil {
		return 0, 0, fmt.Errorf("%d of %d deliveries: %w", deliveries, want, err)
	}
	return deliveries, time.Duration(last-begun) * time.Microsecond, nil
}

// free returns a publisher that waits for no answer, or nil.
func (g *generator) free(p plan, sent, before int) *publisher {
	if p.rate == 0 && g.readers > 0 {
		_, delivered, _ := g.tally.counts()
		if sent*g.readers-(delivered-before) >= p.window*g.readers {
			return nil
		}
	}
	// In turn, because servers close connections that are idle for long.
	for i := range p.publishers {
		if publisher := g.publishers[(sent+i)%p.publishers]; publisher.idle {
			return publisher
		}
	}
	return nil
}

func (g *generator) allIdle() bool {
	for _, p := range g.publishers {
		if !p.idle {
			return false
		}
	}
	return true
}
