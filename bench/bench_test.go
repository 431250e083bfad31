//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
	"github.com/evstream/caddy-evstream/bench/internal/credentials"
)

// TestMain: the test binary is also both of the servers.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == baselineCommand:
		if err := baselineMain(context.Background(), os.Args[2:]); err != nil {
			panic(err)
		}
	case len(os.Args) > 1 && os.Args[1] == "run":
		caddycmd.Main()
	default:
		os.Exit(m.Run())
	}
}

// small is a load that takes little time.
var small = settings{subscribers: 20, connections: 30, duration: 50 * time.Millisecond}

// here serves a handler in this process.
func here(t *testing.T, handler http.Handler) (*workshop, target) {
	t.Helper()
	c, err := credentials.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &workshop{Credentials: c, cores: cores{loads: 1}}
	return w, target{name: baselineName, start: func(ctx context.Context) (*server, error) {
		ctx, cancel := context.WithCancel(ctx)
		plain, secure := listen(t), listen(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := serve(ctx, handler, plain, secure, c); err != nil {
				t.Error(err)
			}
		}()
		return &server{
			plain: plain.Addr().String(), secure: secure.Addr().String(), pid: os.Getpid(),
			stop:       func() { cancel(); <-done },
			complaints: func() string { return "" },
		}, nil
	}}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEachScenarioMeasuresTheBaseline(t *testing.T) {
	for i := range scenarios {
		s := &scenarios[i]
		t.Run(s.name, func(t *testing.T) {
			w, target := here(t, newBroadcaster())
			figures, usages, err := w.try(t.Context(), s, target, small)
			if err != nil {
				t.Fatal(err)
			}
			if len(figures) != len(s.figures) {
				t.Fatalf("%d figures, want %q", len(figures), s.figures)
			}
			for i, name := range s.figures {
				// So few connections may not grow the memory, and the baseline is one
				// process, without a Redis.
				none := []string{"KB", "MB", "Redis", "other node"}
				if figures[i] <= 0 && !slices.ContainsFunc(none, func(part string) bool { return strings.Contains(name, part) }) {
					t.Errorf("%s: %v", name, figures[i])
				}
			}
			if len(usages) == 0 {
				t.Error("nobody looked at how busy the load was")
			}
		})
	}
}

// faulty passes the writes of one stream to a fault.
type faulty struct {
	http.ResponseWriter
	writes int
	fault  func(w io.Writer, n int, b []byte) (int, error)
}

func (f *faulty) Unwrap() http.ResponseWriter { return f.ResponseWriter }

func (f *faulty) Write(b []byte) (int, error) {
	f.writes++
	return f.fault(f.ResponseWriter, f.writes, b)
}

func TestAServerThatMisbehavesIsFoundOut(t *testing.T) {
	// The first write is a comment, the third an event that others follow.
	var held []byte
	for _, tt := range []struct {
		name  string
		fault func(w io.Writer, n int, b []byte) (int, error)
		want  string
	}{
		{"it loses an event", func(w io.Writer, n int, b []byte) (int, error) {
			if n == 3 {
				return len(b), nil
			}
			return w.Write(b)
		}, errOrder.Error()},
		{"it sends an event twice", func(w io.Writer, n int, b []byte) (int, error) {
			if n == 3 {
				w.Write(b)
			}
			return w.Write(b)
		}, errTwice.Error()},
		{"it swaps two events", func(w io.Writer, n int, b []byte) (int, error) {
			if n == 3 {
				held = b
				return len(b), nil
			}
			n, err := w.Write(b)
			w.Write(held)
			held = nil
			return n, err
		}, errOrder.Error()},
		{"it ends a stream", func(w io.Writer, n int, b []byte) (int, error) {
			if n == 3 {
				return 0, errors.New("the test's")
			}
			return w.Write(b)
		}, "ends the stream"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good := newBroadcaster()
			var one atomic.Bool
			w, target := here(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && one.CompareAndSwap(false, true) {
					w = &faulty{ResponseWriter: w, fault: tt.fault}
				}
				good.ServeHTTP(w, r)
			}))
			_, _, err := w.try(t.Context(), scenarioNamed(t, "latency"), target, small)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func scenarioNamed(t *testing.T, name string) *scenario {
	t.Helper()
	for i := range scenarios {
		if scenarios[i].name == name {
			return &scenarios[i]
		}
	}
	t.Fatalf("there is no scenario %q", name)
	return nil
}

// reported runs the command with few subscribers, and returns what it prints and
// what it writes.
func reported(t *testing.T, scenarios, took string, more ...string) (printed string, r report) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	var out, progress bytes.Buffer
	err = run(t.Context(), append([]string{
		"-caddy", self, "-runs", "1", "-t", took, "-subscribers", "20",
		"-scenarios", scenarios, "-json", file,
	}, more...), &out, &progress)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return out.String(), r
}

func TestTheCommandComparesCaddyWithTheBaseline(t *testing.T) {
	printed, r := reported(t, "fanout,http2", "50ms")
	for _, want := range []string{"deliveries/s", "CPU µs/delivery", "evstream ÷ net/http"} {
		if !strings.Contains(printed, want) {
			t.Errorf("no %q in\n%s", want, printed)
		}
	}
	if len(r.Scenarios) != 2 || len(r.Scenarios[1].Targets) != 2 || len(r.Scenarios[1].Targets[0].Runs) != 1 {
		t.Errorf("the report is %+v", r)
	}
}

func TestProfilesAreOfEvstream(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	reported(t, "http2", "1s", "-profile", dir)
	for _, name := range []string{"http2-evstream-1.pprof", "http2-evstream-2.pprof"} {
		if profile, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.HasPrefix(profile, []byte{0x1f, 0x8b}) {
			t.Errorf("%s has %d bytes, %v: want what gzip made", name, len(profile), err)
		}
	}
	if files, err := os.ReadDir(dir); len(files) != 2 || err != nil {
		t.Errorf("there are %d files, want 2: %v", len(files), err)
	}
}

func TestAServerEndsWithTheRun(t *testing.T) {
	dir := t.TempDir()
	c, err := credentials.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &workshop{dir: dir, Credentials: c, cores: cores{loads: 1}}
	if w.itself, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	var pid int
	s := &scenario{run: func(t *trial) ([]float64, error) {
		pid = t.pid
		if err := t.gather(t.subscribers); err != nil {
			return nil, err
		}
		interrupt()
		_, err := t.measure(paced)
		return nil, err
	}}
	if _, _, err := w.try(ctx, s, target{start: w.baseline}, small); !errors.Is(err, context.Canceled) {
		t.Errorf("the run ends with %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
}

func TestAServerThatDoesNotStartTellsWhy(t *testing.T) {
	dir := t.TempDir()
	c, err := credentials.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &workshop{dir: dir, Credentials: c}
	if w.caddy, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	_, err = w.evstream("no_such_option")(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("got %v", err)
	}
}

func TestTheCommandLineIsChecked(t *testing.T) {
	for args, want := range map[string]string{
		"-scenarios fanout,nope": `there is no scenario "nope"; there are fanout,`,
		"-targets nope":          `there is no target "nope"; there are evstream,`,
		"-runs 0":                "at least one run",
		"-t 1ms":                 "10ms to 30s",
		"-t 900ms -profile here": "-t is too short",
		"-subscribers 9999999":   "ulimit -n",
		"fanout":                 `unexpected argument "fanout"`,
		"-nope":                  "not defined: -nope",
	} {
		_, err := new(workshop).parse(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	o, err := new(workshop).parse([]string{"-connections", "2000000"}, io.Discard)
	if err != nil || o.connections >= 2_000_000 || !strings.Contains(o.note, "ulimit -n allows") {
		t.Errorf("more connections than the system allows: %+v, %v", o, err)
	}
}

func TestTheCommandComparesNodesThatShareARedis(t *testing.T) {
	printed, r := reported(t, "redis,followers", "200ms")
	for _, s := range r.Scenarios {
		if !strings.Contains(printed, " ÷ "+s.Base) {
			t.Errorf("nothing is divided by %s in\n%s", s.Base, printed)
		}
		for _, row := range s.Targets {
			for i, name := range s.Figures {
				none := strings.Contains(name, "Redis") && row.Target == "evstream, memory" ||
					strings.Contains(name, "other node") && !strings.Contains(row.Target, "two nodes")
				if figure := row.Runs[0][i]; (figure > 0) == none {
					t.Errorf("%s, %s: %v", row.Target, name, figure)
				}
			}
		}
	}
}
