//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// pubsubName is the target of the scenario redis by whose figures the others are
// divided.
const pubsubName = "net/http, pub/sub"

// followersName is the name of the target with that many nodes.
func followersName(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprint(n, " nodes")
}

// redisTargets are the targets of the scenario redis.
func (w *workshop) redisTargets() []target {
	everySecond := []string{"--appendonly", "yes", "--appendfsync", "everysec"}
	return []target{
		{name: "evstream, memory", start: w.evstream("")},
		{name: "evstream, redis", start: w.withRedis(nil, (*workshop).evstreamNode)},
		{name: "evstream, redis with a file", start: w.withRedis(everySecond, (*workshop).evstreamNode)},
		{name: "evstream, redis, two nodes", start: w.withRedis(nil, (*workshop).evstreamPair)},
		{name: pubsubName, start: w.withRedis(nil, func(w *workshop, ctx context.Context, redis string) (*server, error) {
			return w.ourself(ctx, pubsubKind, redis)
		})},
	}
}

// followersTargets are the targets of the scenario followers.
func (w *workshop) followersTargets() []target {
	var all []target
	for _, n := range []int{1, 2, 4, 8} {
		all = append(all, target{name: followersName(n), start: w.withRedis(nil, func(w *workshop, ctx context.Context, redis string) (*server, error) {
			return w.ourself(ctx, followersKind, redis, strconv.Itoa(n))
		})})
	}
	return all
}

// room is the workshop with another directory, because each process writes a log
// file.
func (w *workshop) room() (*workshop, error) {
	dir, err := os.MkdirTemp(w.dir, "room")
	if err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	room := *w
	room.dir = dir
	return &room, nil
}

// withRedis starts a Redis and the servers that use it.
func (w *workshop) withRedis(options []string, front func(w *workshop, ctx context.Context, redis string) (*server, error)) func(context.Context) (*server, error) {
	return func(ctx context.Context) (*server, error) {
		room, err := w.room()
		if err != nil {
			return nil, err
		}
		address, pid, stop, err := room.redis(ctx, options)
		if err != nil {
			return nil, err
		}
		s, err := front(room, ctx, address)
		if err != nil {
			stop()
			return nil, err
		}
		s.behind.redis = pid
		with := s.stop
		s.stop = func() {
			with()
			stop()
		}
		return s, nil
	}
}

// evstreamNode starts a Caddy whose log is in Redis.
func (w *workshop) evstreamNode(ctx context.Context, redis string) (*server, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	room, err := w.room()
	if err != nil {
		return nil, err
	}
	text := strings.Replace(room.caddyfile(s, ""), "{\n", "{\n\tevstream {\n\t\tadapter redis redis://"+redis+"\n\t}\n", 1)
	file := filepath.Join(room.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	return s, room.launch(ctx, s, room.caddy, "run", "--config", file, "--adapter", "caddyfile")
}

// evstreamPair starts two such nodes: one for publishers, one for subscribers.
func (w *workshop) evstreamPair(ctx context.Context, redis string) (*server, error) {
	s, err := w.evstreamNode(ctx, redis)
	if err != nil {
		return nil, err
	}
	other, err := w.evstreamNode(ctx, redis)
	if err != nil {
		s.stop()
		return nil, err
	}
	s.behind.other, s.behind.reads = other.pid, other.plain
	stop, complaints := s.stop, s.complaints
	s.stop = func() {
		other.stop()
		stop()
	}
	s.complaints = func() string { return complaints() + other.complaints() }
	return s, nil
}

// ourself starts this binary as one of the servers of handlerOf.
func (w *workshop) ourself(ctx context.Context, what ...string) (*server, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	return s, w.launch(ctx, s, w.itself, append([]string{baselineCommand, s.plain, s.secure, w.CertFile, w.KeyFile}, what...)...)
}

// redis starts a Redis on the core of the server and waits until it answers. It
// writes nothing to disk, unless options say so. It ends with ctx, and with this
// process.
func (w *workshop) redis(ctx context.Context, options []string) (address string, pid int, stop func(), err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", 0, nil, fmt.Errorf("redis-server is needed, `make setup` installs it on Debian and Ubuntu: %w", err)
	}
	if address, err = freeAddress(); err != nil {
		return "", 0, nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, nil, err
	}
	logged := filepath.Join(w.dir, "redis.log")
	ctx, cancel := context.WithCancel(ctx)
	args := append([]string{"--bind", host, "--port", port, "--dir", w.dir, "--logfile", logged, "--save", ""}, options...)
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the user's own Redis
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cores.atServer(cmd.Start); err != nil {
		cancel()
		return "", 0, nil, fmt.Errorf("starting Redis: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its error is that it was killed
		close(exited)
	}()
	stop = func() {
		cancel()
		<-exited
	}
	if err := awaitRedis(ctx, address, exited); err != nil {
		stop()
		return "", 0, nil, fmt.Errorf("%w%s", err, tail(logged))
	}
	return address, cmd.Process.Pid, stop, nil
}

// awaitRedis waits until a Redis answers.
func awaitRedis(ctx context.Context, address string, exited <-chan struct{}) error {
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	limit := time.After(startPatience)
	for client.Ping(ctx).Err() != nil {
		select {
		case <-exited:
			return errors.New("redis-server ends instead of serving")
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("redis-server does not serve within %v", startPatience)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
