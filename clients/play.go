package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The bounds of how late a client may dispatch an event: on an open connection,
// and where it was cut before, with the pause that it makes before it comes back.
const (
	prompt   = 1500 * time.Millisecond
	comeback = 20 * time.Second
)

// sent is an event that was published.
type sent struct {
	event, data string
	at          time.Time
	within      time.Duration // it must be dispatched
	after       bool          // the restart of Caddy
}

// round is a client and what it has heard.
type round struct {
	kind    kind
	channel string
	line    *line
	verbose bool

	mu     sync.Mutex
	heard  []dispatch
	ended  error // why it has ended
	over   bool
	stops  int // up to where heard was heard before Caddy was killed
	until  int // up to what was published it must have; -1 for all
	faults []string
}

func (r *round) hear(d dispatch) {
	d.at = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, d)
	if r.verbose {
		fmt.Printf("%s %s %.60q %s %q\n", d.at.Format("05.000"), r.kind.name, d.Data, d.Type, d.Note)
	}
}

// has reports whether it has heard some data.
func (r *round) has(data string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.heard, func(d dispatch) bool { return d.Data == data })
}

// play runs clients through a front, and judges them.
func play(ctx context.Context, dir, binary, modules string, with front, kinds []kind, verbose bool) ([]*round, error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	c := &caddy{binary: binary, dir: dir, options: with.options}
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	defer func() { c.stop(syscall.SIGKILL) }()
	way := c.address
	if with.start != nil {
		if way, err = freeAddress(); err != nil {
			return nil, err
		}
		cmd, err := with.start(ctx, dir, way, c.address)
		if err != nil {
			return nil, err
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		running.Go(func() { _ = cmd.Wait() })
		if err := until(ctx, 10*time.Second, with.name+" to listen", func() bool { return answers(way) }); err != nil {
			return nil, err
		}
	}
	pages, err := servePages(modules)
	if err != nil {
		return nil, err
	}
	defer pages.server.Close()

	var rounds []*round
	var channels []string
	for _, k := range kinds {
		r := &round{kind: k, channel: "to." + k.name, verbose: verbose, until: -1}
		if r.line, err = newLine(way); err != nil {
			return nil, err
		}
		defer r.line.listener.Close()
		at := place{dir: filepath.Join(dir, k.name), modules: modules, pages: pages}
		if err := os.MkdirAll(at.dir, 0o755); err != nil {
			return nil, err
		}
		running.Go(func() {
			err := k.follow(ctx, at, "http://"+r.line.listener.Addr().String()+"/live/"+r.channel, r.hear)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.over, r.ended = true, err
			if verbose {
				fmt.Println(k.name, "ends:", err)
			}
		})
		rounds, channels = append(rounds, r), append(channels, r.channel)
	}
	s := &scene{ctx: ctx, caddy: c, rounds: rounds, channels: channels, through: with.start != nil}
	if err := s.act(); err != nil {
		return nil, err
	}
	for _, r := range rounds {
		r.judge(s.sent)
	}
	return rounds, nil
}

// scene is what happens to all clients at a time.
type scene struct {
	ctx      context.Context
	caddy    *caddy
	rounds   []*round
	channels []string
	through  bool // a proxy
	after    bool // the restart
	sent     []sent
}

func (s *scene) act() error {
	for _, r := range s.rounds {
		// Who does not come is judged later.
		_ = until(s.ctx, 40*time.Second, r.kind.name, func() bool { return s.caddy.readers(s.ctx, r.channel) > 0 })
	}
	// On an open connection: named and unnamed events, one of many lines and a large
	// one, and between them heartbeats.
	for i := range 30 {
		extra := ""
		switch i {
		case 10:
			extra = " " + strings.Repeat("x", 100<<10)
		case 11:
			extra = "\nand\n\nlines"
		}
		if err := s.publish(extra, prompt); err != nil {
			return err
		}
		pause(s.ctx, 30*time.Millisecond)
	}
	pause(s.ctx, 2500*time.Millisecond)
	if err := s.publish("", prompt); err != nil {
		return err
	}
	s.settle()
	// Cut between events, and within one.
	for n := range 4 {
		for _, r := range s.rounds {
			if n%2 == 0 || r.kind.takesHalves {
				r.line.cut()
			} else {
				r.line.cutWithin(9)
			}
		}
		for range 4 {
			if err := s.publish("", comeback); err != nil {
				return err
			}
			pause(s.ctx, 50*time.Millisecond)
		}
		s.settle()
	}
	// Killed, and started again without what it had.
	if err := s.restart(syscall.SIGKILL, true); err != nil {
		return err
	}
	// Stopped, as for an upgrade: the streams end properly.
	for _, r := range s.rounds {
		if r.kind.endsForGood {
			r.until = len(s.sent)
		}
	}
	return s.restart(syscall.SIGTERM, false)
}

func (s *scene) restart(signal syscall.Signal, mark bool) error {
	for _, r := range s.rounds {
		if s.through {
			r.line.hold() // a proxy answers 502 meanwhile, which ends an EventSource for good
		}
		if mark {
			r.mu.Lock()
			r.stops = len(r.heard)
			r.mu.Unlock()
		}
	}
	s.caddy.stop(signal)
	if err := s.caddy.start(s.ctx); err != nil {
		return err
	}
	s.after = true
	for _, r := range s.rounds {
		r.line.release()
	}
	for range 5 {
		if err := s.publish("", comeback); err != nil {
			return err
		}
		pause(s.ctx, 50*time.Millisecond)
	}
	s.settle()
	return s.publishLast()
}

// publishLast publishes on the connections that there are again.
func (s *scene) publishLast() error {
	if err := s.publish("", prompt+time.Second); err != nil {
		return err
	}
	s.settle()
	return nil
}

// settle waits until all have what was published, or its time is over.
func (s *scene) settle() {
	last := s.sent[len(s.sent)-1]
	_ = until(s.ctx, last.within, "everybody", func() bool {
		return !slices.ContainsFunc(s.rounds, func(r *round) bool { return r.until < 0 && !r.has(last.data) })
	})
	pause(s.ctx, 100*time.Millisecond) // for what comes twice
}

func (s *scene) publish(extra string, within time.Duration) error {
	n := len(s.sent)
	e := sent{data: strconv.Itoa(n) + extra, within: within, after: s.after}
	if n%3 == 2 {
		e.event = "tick"
	}
	var err error
	e.at, err = s.caddy.publish(s.ctx, s.channels, e.event, e.data)
	s.sent = append(s.sent, e)
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
