package redisadapter

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// TestOutageIsLoggedOnceAndWhenItIsOver: meanwhile the node follows, beats and
// trims, and publishes.
func TestOutageIsLoggedOnceAndWhenItIsOver(t *testing.T) {
	t.Parallel()
	type outage struct {
		begin func(*redistest.Server, *redistest.Proxy)
		end   func(*redistest.Server, *redistest.Proxy)
	}
	for name, outage := range map[string]outage{
		"a server that is stopped": {
			func(s *redistest.Server, _ *redistest.Proxy) { s.Pause() },
			func(s *redistest.Server, _ *redistest.Proxy) { s.Resume() },
		},
		"a server that is killed": {
			func(s *redistest.Server, _ *redistest.Proxy) { s.Kill() },
			func(s *redistest.Server, _ *redistest.Proxy) { s.Restart() },
		},
		"a proxy that closes what it accepts": {
			func(s *redistest.Server, p *redistest.Proxy) { p.Retarget("127.0.0.1:1") },
			func(s *redistest.Server, p *redistest.Proxy) { p.Retarget(s.Addr()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.AppendOnly())
			var told lines
			logger := slog.New(slog.NewTextHandler(&told, nil))
			proxy := redistest.StartProxy(t, server.Addr())
			settings := logConfig(server, t)
			settings.Addresses = []string{proxy.Addr()}
			log, err := Open(settings, logger)
			if err != nil {
				t.Fatal(err)
			}
			log.intervals = quickIntervals
			cfg := broker.DefaultConfig()
			cfg.Logger = logger
			b, err := broker.New(log, cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			publish := func() error {
				_, err := log.Append(t.Context(), []broker.Op{event("a", "x")})
				return err
			}
			awaitTrue(t, longEnough, "the log", func() bool {
				_, cut := b.Stale()
				return !cut && publish() == nil
			})
			if told.count("\n") > 0 {
				t.Fatalf("before the outage: %s", &told)
			}

			outage.begin(server, proxy)
			// In this time are several attempts, each of which takes up to two seconds.
			for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if err := publish(); err == nil {
					t.Fatal("something is published")
				}
			}
			out := told.level("ERROR") + told.level("WARN")
			if n := told.count("nothing can be published"); n != 1 || out < 2 || out > 4 {
				t.Errorf("%d lines, of which %d say that nothing can be published:\n%s", out, n, &told)
			}
			if again := told.repeated(); again != "" {
				t.Errorf("this is logged again and again: %s\n%s", again, &told)
			}

			outage.end(server, proxy)
			awaitTrue(t, longEnough, "the log", func() bool {
				_, cut := b.Stale()
				return !cut && publish() == nil
			})
			if over := told.level("INFO"); over != 2 || told.count("within reach again") != 1 || told.level("ERROR")+told.level("WARN") != out {
				t.Errorf("%d lines say that it is over:\n%s", over, &told)
			}
		})
	}
}

// level counts the lines of a level.
func (l *lines) level(name string) int { return l.count("level=" + name) }

// repeated is a line that there is twice, but for its time and a local address;
// "" if there is none.
func (l *lines) repeated() string {
	known := map[string]bool{}
	for line := range strings.Lines(l.String()) {
		_, line, _ = strings.Cut(line, " ") // the time
		if line = localAddress.ReplaceAllString(line, ""); known[line] {
			return line
		}
		known[line] = true
	}
	return ""
}

// String implements fmt.Stringer.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestNodeThatMayNotReadSaysSoOnce: it may load the log, so that it must not be
// ready before it has read something.
func TestNodeThatMayNotReadSaysSoOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACLUser("node", "secret", "~*", "+@all", "-xread"))
	var told lines
	logger := slog.New(slog.NewTextHandler(&told, nil))
	settings := logConfig(server, t)
	settings.Username, settings.Password = "node", "secret"
	log, err := Open(settings, logger)
	if err != nil {
		t.Fatal(err)
	}
	cfg := broker.DefaultConfig()
	cfg.Logger = logger
	b, err := broker.New(log, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	// Each attempt sends two XREAD.
	awaitTrue(t, longEnough, "some attempts", func() bool { return rejected(t, server, "xread") >= 12 })
	if told.level("ERROR") != 1 || told.level("INFO") != 0 {
		t.Errorf("it is logged:\n%s", &told)
	}
	if err := server.Client().Do(t.Context(), "ACL", "SETUSER", "node", "+xread").Err(); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, longEnough, "the log", func() bool { _, cut := b.Stale(); return !cut })
}

// rejected is how often a server has refused a command.
func rejected(t testing.TB, s *redistest.Server, command string) int {
	t.Helper()
	info, err := s.Client().Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "cmdstat_"+command+":")
	_, rest, _ = strings.Cut(rest, "rejected_calls=")
	n, _, _ := strings.Cut(rest, ",")
	calls, _ := strconv.Atoi(n) // 0 where there is no such line
	return calls
}

func TestFaultsOfTheScriptAreLoggedOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var told lines
	log, err := Open(logConfig(server, t), slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	try := func(n int, op broker.Op) {
		for range n {
			_, _ = log.Append(t.Context(), []broker.Op{op})
		}
	}
	appendAll(t, log, event("a", "x"))
	do(t, server, "SET", log.keys.value, "another's")
	try(20, set("a", "1")) // the script fails after it has begun to write
	if n := told.count("may be damaged"); n != 1 || told.level("ERROR") != 1 {
		t.Errorf("it is logged:\n%s", &told)
	}
	do(t, server, "DEL", log.keys.value)
	// A memory that is full at times is one fault.
	for i := range 20 {
		do(t, server, "CONFIG", "SET", "maxmemory", strconv.Itoa(1-i%2))
		try(2, event("a", "x"))
	}
	if n := told.level("WARN"); n != 1 {
		t.Errorf("it is logged:\n%s", &told)
	}
}

func TestFaultIsLoggedOncePerReasonAndWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := faultLog{quiet: time.Minute}
		if _, over := f.ends(); over {
			t.Error("a fault ends that has not begun")
		}
		var told []string
		for i := range 100 {
			if reason := fmt.Sprint("reason ", i%3); f.begins(reason) {
				told = append(told, reason)
			}
			if _, over := f.ends(); over { // it comes and goes
				t.Fatalf("it is over after %d times", i+1)
			}
			time.Sleep(f.quiet / 2)
		}
		if fmt.Sprint(told) != "[reason 0 reason 1 reason 2]" {
			t.Errorf("of three reasons %q are logged", told)
		}
		time.Sleep(f.quiet)
		after, over := f.ends()
		if _, again := f.ends(); after != 51*time.Minute || !over || again {
			t.Errorf("it is over after %s: %v, and again: %v", after, over, again)
		}
		if !f.begins("reason 0") {
			t.Error("the next fault is not logged")
		}
		n := 1
		for i := range 100 {
			if f.begins(fmt.Sprint("reason ", i)) {
				n++
			}
		}
		if n != maxReasons {
			t.Errorf("%d lines of a fault with ever new reasons", n)
		}
	})
}

func TestReasonsThatDifferInTheLocalPortAreOne(t *testing.T) {
	t.Parallel()
	var told reasons
	for port := range 3 {
		err := &net.OpError{
			Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded,
			Source: &net.TCPAddr{IP: net.IPv6loopback, Port: 40000 + port}, Addr: &net.TCPAddr{IP: net.IPv6loopback, Port: 6379},
		}
		if first := told.add("connecting: " + err.Error()); first != (port == 0) {
			t.Errorf("%v is new: %v", err, first)
		}
	}
	if !told.add(strings.Repeat("another", 2)) {
		t.Error("another reason is not new")
	}
}
