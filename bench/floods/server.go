//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/credentials"
	"github.com/evstream/caddy-evstream/bench/internal/process"
)

const caddyfile = `{
	admin unix/{{dir}}/admin
	persist_config off
	auto_https off
	log {
		level ERROR
	}
	evstream {
		max_connections_per_ip unlimited
		connect_rate unlimited
	}
	servers {
		protocols h1 h2
	}
}
https://localhost:{{port}} {
	bind 127.0.0.1
	tls {{dir}}/cert.pem {{dir}}/key.pem
	evstream /live/* {
		allow anyone subscribe,publish **
		heartbeat 5m
		delivery {{delivery}}
	}
	respond /plain "plain"
	respond /large "{{large}}"
}
`

// server is a Caddy that runs.
type server struct {
	*process.Process
	address, delivery string
}

// start starts Caddy and waits until it serves.
func start(ctx context.Context, binary, dir, delivery string) (*server, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := credentials.New(dir); err != nil {
		return nil, err
	}
	address, err := process.Free(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	text := strings.NewReplacer("{{dir}}", dir, "{{port}}", port, "{{delivery}}", delivery, "{{large}}", strings.Repeat("x", 500_000)).Replace(caddyfile)
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "run", "--config", file) //nolint:gosec // what it has built, or the caller names
	s := &server{address: address, delivery: delivery}
	s.Process, err = process.Start(ctx, cmd, dir, address)
	return s, err
}

// awaitServers waits until so many connections have a server of HTTP/2: those that are parked
// have none.
func (s *server) awaitServers(n int) error {
	var stacks []byte
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if stacks, err = s.Ask("goroutine?debug=2"); err != nil {
			return err
		}
		if bytes.Count(stacks, []byte("http2.(*serverConn).serve(")) == n {
			return nil
		}
	}
	return fmt.Errorf("not %d, but %d connections have a server", n, bytes.Count(stacks, []byte("http2.(*serverConn).serve(")))
}

// collect has Caddy give back what memory it does not use, and forget the most that it had.
func (s *server) collect() error {
	for range 2 {
		if _, err := s.Ask("heap?gc=1&debug=1"); err != nil {
			return err
		}
	}
	return s.Forget()
}
