//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/credentials"
)

// startPatience is how long a server may take to start.
const startPatience = 20 * time.Second

// target is a server that is measured.
type target struct {
	name  string
	start func(context.Context) (*server, error)

	// It differs from another target only over plaintext HTTP/1.1, and is measured
	// only there.
	plainOnly bool
}

// server is a target that runs.
type server struct {
	plain, secure string // the addresses of HTTP and HTTPS
	admin         string // the socket of Caddy's admin endpoint, if it has one
	pid           int
	behind        behind
	stop          func()
	complaints    func() string // the end of what it has logged
}

// workshop is what is needed to start servers.
type workshop struct {
	dir    string // a new directory for files
	caddy  string // the binary
	itself string // this binary, which can be the baseline
	*credentials.Credentials
	cores cores
}

// The Caddyfile of evstream. {{plain}}, {{secure}} and {{admin}} are addresses,
// {{options}} is where targets differ.
const caddyfileText = `{
	admin unix/{{admin}}
	persist_config off
	auto_https off
	log {
		level ERROR
	}
}
(live) {
	evstream /live/* {
		allow anyone subscribe,publish **
		{{options}}
	}
}
http://{{plain}} {
	import live
}
https://{{secure}} {
	tls {{cert}} {{key}}
	import live
}
`

// targets are all that can be measured.
func (w *workshop) targets() []target {
	return []target{
		{name: "evstream", start: w.evstream("")},
		{name: "evstream-attached", start: w.evstream("delivery attached"), plainOnly: true},
		{name: baselineName, start: w.baseline},
	}
}

// evstream starts Caddy with options in the handler's block.
func (w *workshop) evstream(options string) func(context.Context) (*server, error) {
	return func(ctx context.Context) (*server, error) {
		s, err := newServer()
		if err != nil {
			return nil, err
		}
		file := filepath.Join(w.dir, "Caddyfile")
		if err := os.WriteFile(file, []byte(w.caddyfile(s, options)), 0o600); err != nil {
			return nil, fmt.Errorf("writing the Caddyfile: %w", err)
		}
		return s, w.launch(ctx, s, w.caddy, "run", "--config", file, "--adapter", "caddyfile")
	}
}

// caddyfile is the Caddyfile of a server. It sets s.admin, of which there is one in a
// directory.
func (w *workshop) caddyfile(s *server, options string) string {
	s.admin = filepath.Join(w.dir, "admin")
	return strings.NewReplacer("{{admin}}", s.admin, "{{plain}}", s.plain, "{{secure}}", s.secure,
		"{{cert}}", w.CertFile, "{{key}}", w.KeyFile, "{{options}}", options).Replace(caddyfileText)
}

// baseline starts this binary as a broadcaster.
func (w *workshop) baseline(ctx context.Context) (*server, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	return s, w.launch(ctx, s, w.itself, baselineCommand, s.plain, s.secure, w.CertFile, w.KeyFile)
}

func newServer() (*server, error) {
	s := new(server)
	var err error
	if s.plain, err = freeAddress(); err != nil {
		return nil, err
	}
	for s.secure = s.plain; s.secure == s.plain; {
		if s.secure, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// freeAddress finds an address on which nobody listens. The port is below those
// that the system gives to clients: a subscriber could get it before the server.
func freeAddress() (string, error) {
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(19_000+rand.IntN(1_000))) //nolint:gosec // no secret
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no port from 19000 to 19999 is free")
}

// launch starts a process on the core of the server and waits until it serves. The
// process ends with ctx, and with this process.
func (w *workshop) launch(ctx context.Context, s *server, name string, args ...string) error {
	logged, err := os.Create(filepath.Join(w.dir, "log"))
	if err != nil {
		return fmt.Errorf("making the server's log: %w", err)
	}
	defer logged.Close()
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the user's own Caddy, or this binary
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_DATA_HOME="+w.dir, "XDG_CONFIG_HOME="+w.dir)
	cmd.Stdout, cmd.Stderr = logged, logged
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cores.atServer(cmd.Start); err != nil {
		cancel()
		return fmt.Errorf("starting the server: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its error is that it was killed
		close(exited)
	}()
	s.pid = cmd.Process.Pid
	s.stop = func() {
		cancel()
		<-exited
	}
	s.complaints = func() string { return tail(logged.Name()) }
	if err := w.await(ctx, s, exited); err != nil {
		s.stop()
		return fmt.Errorf("%w%s", err, s.complaints())
	}
	return nil
}

// await waits until a server serves.
func (w *workshop) await(ctx context.Context, s *server, exited <-chan struct{}) error {
	limit := time.After(startPatience)
	for {
		if err := w.knock(ctx, s); err == nil {
			return nil
		}
		select {
		case <-exited:
			return errors.New("the server ends instead of serving")
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("the server does not serve within %v", startPatience)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// knock connects to both addresses of a server.
func (w *workshop) knock(ctx context.Context, s *server) error {
	var plain net.Dialer
	conn, err := plain.DialContext(ctx, "tcp", s.plain)
	if err != nil {
		return err
	}
	_ = conn.Close()
	secure := tls.Dialer{Config: &tls.Config{RootCAs: w.Pool, MinVersion: tls.VersionTLS13}}
	if conn, err = secure.DialContext(ctx, "tcp", s.secure); err != nil {
		return err
	}
	return conn.Close()
}

// tail is the end of a log, on separate lines.
func tail(file string) string {
	text, err := os.ReadFile(file) //nolint:gosec // a log of ours
	if err != nil || len(text) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}
