//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// How many connections may be dialed at a time: fewer than fit into the accept
	// queue of a server.
	opening = 256

	// How many sockets are served before it is the publishers' turn again.
	served = 128

	// How long a delivery or an answer may take.
	patience = 20 * time.Second
)

// generator is the load on one server: publishers and subscribers on raw sockets,
// which one thread serves. Its methods must be called on that thread.
type generator struct {
	ctx   context.Context
	tally *tally

	epoll      int
	links      []*link
	events     []unix.EpollEvent
	buffer     []byte
	publishers []*publisher
	closers    []io.Closer // of subscribers that are no raw sockets

	readers int                   // subscribers that read
	numbers [maxPublishers]uint32 // the last event that each publisher has sent
	between func() error          // called before each socket that is served; may be nil
}

// link is one socket of the generator.
type link struct {
	fd      int
	hello   []byte // the request to send once it is connected
	greeted bool   // hello was sent
	paused  bool   // it is not read
	take    func(b []byte, at int64) error
}

// newGenerator locks the goroutine to its thread until close.
func newGenerator(ctx context.Context) (*generator, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll: %w", err)
	}
	runtime.LockOSThread()
	return &generator{
		ctx: ctx, tally: newTally(), epoll: epoll,
		events: make([]unix.EpollEvent, served), buffer: make([]byte, 256<<10),
	}, nil
}

// close ends the load and unlocks the thread.
func (g *generator) close() {
	g.drop()
	_ = unix.Close(g.epoll)
	runtime.UnlockOSThread()
}

// drop closes every connection with a reset: thousands in TIME_WAIT would leave no
// ports to the next run.
func (g *generator) drop() {
	for _, c := range g.closers {
		_ = c.Close()
	}
	for _, l := range g.links {
		_ = unix.SetsockoptLinger(l.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(l.fd)
	}
	g.closers, g.links, g.publishers, g.readers, g.between = nil, nil, nil, 0, nil
}

// dial starts to connect a link.
func (g *generator) dial(address string, l *link) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	l.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}
	index := len(g.links)
	g.links = append(g.links, l) // from here on drop closes its socket
	err = unix.Connect(l.fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connecting: %w", err)
	}
	err = unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1), Fd: int32(index),
	})
	if err != nil {
		return fmt.Errorf("watching a socket: %w", err)
	}
	return nil
}

// turn waits for sockets, not longer than wait, and serves them.
func (g *generator) turn(wait time.Duration) error {
	if err := g.ctx.Err(); err != nil {
		return err
	}
	wait = min(max(wait, 0), 100*time.Millisecond) // to check ctx from time to time
	n, err := unix.EpollWait(g.epoll, g.events, int(wait/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for sockets: %w", err)
	}
	for _, e := range g.events[:max(n, 0)] {
		if g.between != nil {
			if err := g.between(); err != nil {
				return err
			}
		}
		if err := g.serve(g.links[e.Fd], e.Events); err != nil {
			return err
		}
	}
	_, _, wrong := g.tally.counts()
	return wrong
}

// serve does what a socket is ready for.
func (g *generator) serve(l *link, ready uint32) error {
	if !l.greeted {
		if ready&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			return errors.New("the server refuses a connection")
		}
		if ready&unix.EPOLLOUT == 0 {
			return nil
		}
		l.greeted = true
		if err := l.send(l.hello); err != nil {
			return err
		}
	}
	if l.paused {
		return nil
	}
	// epoll is edge-triggered: read until there is no more.
	for {
		n, err := unix.Read(l.fd, g.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("the server breaks a connection: %w", err)
		case n == 0:
			return errors.New("the server closes a connection")
		}
		if err := l.take(g.buffer[:n], g.tally.now()); err != nil {
			return err
		}
		if n < len(g.buffer) && ready&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return nil
		}
	}
}

// send writes a request. The socket buffer is empty, so that it fits.
func (l *link) send(request []byte) error {
	if len(request) == 0 {
		return nil
	}
	n, err := unix.Write(l.fd, request)
	if err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	if n < len(request) {
		return fmt.Errorf("sending a request: %w", io.ErrShortWrite)
	}
	return nil
}

// until serves sockets until done returns true. what is for the error of a timeout.
func (g *generator) until(what string, done func() bool) error {
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %w", what, patience, os.ErrDeadlineExceeded)
		}
		if err := g.turn(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// settle serves sockets for a while, to find events that come once too often.
func (g *generator) settle(d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := g.turn(time.Until(end)); err != nil {
			return err
		}
	}
	return nil
}
