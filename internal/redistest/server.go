package redistest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	configFile = "redis.conf"
	outputFile = "output"
	maxOutput  = 64 << 10 // of what a server wrote, in the log of a test
)

// Server is a redis-server at 127.0.0.1. It stays at its address.
type Server struct {
	t         testing.TB
	kind      string   // what messages call it
	args      []string // in addition to the configuration file
	dir       string
	port      int
	authority *authority // nil without TLS
	mayFill   bool       // LimitFiles is allowed

	process *process
	paused  bool
	client  *redis.Client

	mu       sync.Mutex
	password string // guarded by mu: new connections of the client read it
}

// Start runs a server until the test ends. Without options it writes nothing to
// disk, and needs no password.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	return start(t, "redis-server", append([]Option{Config(
		`save ""`,
		"shutdown-timeout 0", // for replicas that lag
		"repl-diskless-sync-delay 0",
		"repl-ping-replica-period 1",
	)}, opts...))
}

// start is Start for every kind of server.
func start(t testing.TB, kind string, opts []Option, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, kind: kind, args: args, dir: t.TempDir()}
	t.Cleanup(s.end)
	for attempt := 1; ; attempt++ {
		s.port = freePort(t)
		err := s.configure(opts)
		if err == nil {
			err = s.launch()
		}
		if err == nil {
			s.client = redis.NewClient(s.Options())
			return s
		}
		// Another process may have taken the free port.
		if attempt == 3 || !strings.Contains(s.output(), "Address already in use") {
			t.Fatal(err)
		}
	}
}

// configure writes the configuration file.
func (s *Server) configure(opts []Option) error {
	with := settings{t: s.t}
	for _, opt := range opts {
		opt(&with)
	}
	s.password, s.authority, s.mayFill = with.password, with.authority, with.mayFill
	lines := []string{"bind 127.0.0.1", fmt.Sprintf("port %d", s.port)}
	if s.authority != nil {
		lines = []string{"bind 127.0.0.1", "port 0", fmt.Sprintf("tls-port %d", s.port)}
		if err := s.authority.write(s.dir); err != nil {
			return err
		}
	}
	text := strings.Join(append(lines, with.lines...), "\n") + "\n"
	return os.WriteFile(filepath.Join(s.dir, configFile), []byte(text), 0o600)
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	s.t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("redis-server is not installed: `make setup` does it on Debian and Ubuntu: %v", err)
	}
	args := append([]string{configFile}, s.args...)
	if s.mayFill {
		// What is ignored stays so in the program that replaces the shell.
		args = append([]string{"-c", `trap "" XFSZ; exec "$0" "$@"`, program}, args...)
		program = "/bin/sh"
	}
	s.process, err = run(s.dir, outputFile, program, args...)
	if err != nil {
		return fmt.Errorf("starting %s: %w", s.kind, err)
	}
	s.paused = false
	exited := errors.New("it has exited")
	await(s.t, s.kind+" to answer", func(ctx context.Context) error {
		if !s.process.running() {
			err = exited
			return nil
		}
		return s.answers(ctx)
	})
	if errors.Is(err, exited) {
		return fmt.Errorf("%s does not start: %w", s.kind, s.process.err)
	}
	return nil
}

// answers reports why the server is not ready, or another one is at its address.
func (s *Server) answers(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	_ = conn.Close()
	// A new client each time: one that has failed may pause before it dials again.
	client := redis.NewClient(s.Options())
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return err
	}
	info, err := client.Info(ctx, "server").Result()
	if err == nil && field(info, "process_id") != fmt.Sprint(s.process.Pid) {
		err = errors.New("another server answers")
	}
	return err
}

// field finds a value in what INFO answers.
func field(info, name string) string {
	_, rest, _ := strings.Cut("\r\n"+info, "\r\n"+name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// Addr is the address of the server, also while it does not run.
func (s *Server) Addr() string { return address(s.port) }

// Options are for another client, which retries nothing. They are safe for
// concurrent use.
func (s *Server) Options() *redis.Options {
	return &redis.Options{
		Addr: s.Addr(),
		CredentialsProvider: func() (string, string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return "", s.password
		},
		TLSConfig:                s.TLSConfig(),
		MaxRetries:               -1,
		DialerRetries:            1,
		ReadTimeout:              patience, // the server may have much to do
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Client is a client with these options, the same at every call. It is safe
// for concurrent use, and closed when the test ends.
func (s *Server) Client() *redis.Client { return s.client }

// SetPassword changes the password of the default user, for new connections.
func (s *Server) SetPassword(password string) {
	s.t.Helper()
	s.do("CONFIG", "SET", "requirepass", password, "masterauth", password)
	s.mu.Lock()
	s.password = password
	s.mu.Unlock()
	s.do("CONFIG", "REWRITE")
}

// ReplicaOf makes the server a replica of another one or, with nil, a primary. It
// stays that after a Restart.
func (s *Server) ReplicaOf(primary *Server) {
	s.t.Helper()
	if primary == nil {
		s.do("REPLICAOF", "NO", "ONE")
	} else {
		s.do("REPLICAOF", "127.0.0.1", primary.port)
	}
	s.do("CONFIG", "REWRITE")
}

// do runs a command that must succeed.
func (s *Server) do(args ...any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.client.WithTimeout(patience).Do(ctx, args...).Err(); err != nil {
		s.t.Fatalf("%s: %v: %v", s.kind, args[0], err)
	}
}

// number parses what field returns; -1 if it is not a number.
func number(value string) int64 {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// up reports whether the server runs and answers.
func (s *Server) up() bool { return s.process.running() && !s.paused }

// Stop ends the server with SIGTERM.
func (s *Server) Stop() {
	s.t.Helper()
	if !s.process.running() {
		return
	}
	s.Resume()
	if err := s.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatalf("stopping %s: %v", s.kind, err)
	}
	select {
	case <-s.process.exited:
	case <-time.After(patience):
		s.t.Fatalf("%s does not stop in %s", s.kind, patience)
	}
	if s.process.err != nil {
		s.t.Fatalf("%s stops with %v", s.kind, s.process.err)
	}
}

// Kill ends the server with SIGKILL. Without AppendOnly all data are lost.
func (s *Server) Kill() { s.process.kill() }

// Restart starts the server at the same address, and stops it before, if it
// runs. Without AppendOnly it comes up empty.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.launch(); err != nil {
		s.t.Fatal(err)
	}
}

// LimitFiles makes the server fail to write beyond so many bytes of a file, as on a
// disk that is full; 0 ends that. The server must have been started with Everysec.
func (s *Server) LimitFiles(bytes uint64) {
	s.t.Helper()
	if !s.mayFill {
		s.t.Fatalf("%s would not survive that: start it with Everysec", s.kind)
	}
	if err := limitFiles(s.process.Pid, bytes); err != nil {
		s.t.Fatalf("limiting the files of %s: %v", s.kind, err)
	}
}

// Pause stops the server with SIGSTOP: the system still accepts connections and
// data for it, but nothing is answered.
func (s *Server) Pause() {
	s.t.Helper()
	if !s.up() {
		s.t.Fatalf("%s does not run: it cannot be paused", s.kind)
	}
	err := pause(s.process.Process)
	if err == nil {
		err = awaitStopped(s.process.Pid)
	}
	if err != nil {
		s.t.Fatalf("pausing %s: %v", s.kind, err)
	}
	s.paused = true
}

// Resume ends a Pause, if there is one.
func (s *Server) Resume() {
	s.t.Helper()
	if !s.paused {
		return
	}
	if err := resume(s.process.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatalf("resuming %s: %v", s.kind, err)
	}
	s.paused = false
}

// end is called when the test has ended.
func (s *Server) end() {
	s.process.kill()
	if s.client != nil {
		_ = s.client.Close()
	}
	if s.t.Failed() {
		s.t.Logf("%s at %s wrote:\n%s", s.kind, s.Addr(), s.output())
	}
	// A child of the process may still write a file for a moment.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); os.RemoveAll(s.dir) != nil && time.Now().Before(deadline); {
		<-tick.C
	}
}

// output is the end of what the server has written.
func (s *Server) output() string {
	file, err := os.Open(filepath.Join(s.dir, outputFile))
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-maxOutput), io.SeekStart)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxOutput))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
