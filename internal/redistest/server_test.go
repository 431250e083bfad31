package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// another is another client, with this user.
func another(t *testing.T, s *Server, name, password string) *redis.Client {
	t.Helper()
	o := s.Options()
	o.CredentialsProvider = nil
	o.Username, o.Password = name, password
	return connect(t, o)
}

func connect(t *testing.T, o *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	return client
}

// clientAt is a client of s at an address.
func clientAt(t *testing.T, s *Server, addr string) *redis.Client {
	t.Helper()
	o := s.Options()
	o.Addr = addr
	return connect(t, o)
}

// brief is how long an answer is waited for that does not come.
const brief = 200 * time.Millisecond

// impatient is a client that waits for no longer.
func impatient(t *testing.T, s *Server, addr string) *redis.Client {
	t.Helper()
	o := s.Options()
	o.Addr = addr
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = brief, brief, brief
	return connect(t, o)
}

func set(t *testing.T, client redis.UniversalClient, key, value string) {
	t.Helper()
	if err := client.Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatalf("SET: %v", err)
	}
}

func wantValue(t *testing.T, client redis.UniversalClient, key, want string) {
	t.Helper()
	got, err := client.Get(t.Context(), key).Result()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	if err != nil || got != want {
		t.Fatalf("%s is %q, %v, not %q", key, got, err, want)
	}
}

func wantRefused(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err == nil {
		conn.Close()
		t.Fatalf("%s accepts connections", addr)
	}
}

func wantTimeout(t *testing.T, err error) {
	t.Helper()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("got %v, not a timeout", err)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await(t, what, func(context.Context) error {
		if !ok() {
			return errors.New("not yet")
		}
		return nil
	})
}

func TestServerAnswersUntilItsTestEnds(t *testing.T) {
	t.Parallel()
	var server *Server
	t.Run("with a server", func(t *testing.T) {
		server = Start(t)
		set(t, server.Client(), "a", "1")
		wantValue(t, server.Client(), "a", "1")
	})
	if server.process.running() {
		t.Error("its process runs")
	}
	wantRefused(t, server.Addr())
	if err := server.Client().Ping(t.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("its client says %v", err)
	}
}

func TestServersDoNotShareAnything(t *testing.T) {
	t.Parallel()
	a, b := Start(t), Start(t)
	set(t, a.Client(), "a", "1")
	wantValue(t, b.Client(), "a", "")
	if a.Addr() == b.Addr() || a.dir == b.dir {
		t.Errorf("%s in %s and %s in %s", a.Addr(), a.dir, b.Addr(), b.dir)
	}
}

func TestRestartKeepsTheAddressAndOnlyWithAppendOnlyTheData(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts []Option
		end  func(*Server)
		want string
	}{
		{"killed", []Option{AppendOnly()}, (*Server).Kill, "1"},
		{"stopped", []Option{AppendOnly()}, (*Server).Stop, "1"},
		{"running", []Option{AppendOnly()}, func(*Server) {}, "1"},
		{"paused", []Option{AppendOnly()}, (*Server).Pause, "1"},
		{"killed without", nil, (*Server).Kill, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, tt.opts...)
			addr, first := s.Addr(), s.process
			set(t, s.Client(), "a", "1")
			tt.end(s)
			s.Restart()
			if first.running() || s.process == first {
				t.Error("the first process runs")
			}
			if s.Addr() != addr {
				t.Errorf("the address was %s and is %s", addr, s.Addr())
			}
			wantValue(t, s.Client(), "a", tt.want)
		})
	}
}

func TestStoppedAndKilledServersRefuse(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Stop()
	wantRefused(t, s.Addr())
	s.Restart()
	s.Kill()
	wantRefused(t, s.Addr())
	s.Kill()
	s.Stop() // both do nothing to a server that has ended
}

func TestPausedServerAcceptsAndAnswersNothing(t *testing.T) {
	t.Parallel()
	s := Start(t)
	client := clientAt(t, s, s.Addr())
	set(t, client, "a", "1")
	s.Pause()
	wantTimeout(t, client.WithTimeout(brief).Get(t.Context(), "a").Err())
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.Resume()
	wantValue(t, s.Client(), "a", "1")
}

func TestPasswordIsAskedAndCanBeChanged(t *testing.T) {
	t.Parallel()
	s := Start(t, Password("first one"))
	if err := another(t, s, "", "").Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
	set(t, another(t, s, "", "first one"), "a", "1")
	s.SetPassword("second")
	if err := another(t, s, "", "first one").Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with the former password: %v", err)
	}
	wantValue(t, another(t, s, "", "second"), "a", "1")
	s.Restart()
	wantValue(t, another(t, s, "", "second"), "a", "")
}

func TestACLUserMayDoWhatItsRulesSay(t *testing.T) {
	t.Parallel()
	s := Start(t, ACLUser("alice", "se cret", "~app:*", "+@all"))
	alice := another(t, s, "alice", "se cret")
	set(t, alice, "app:a", "1")
	if err := alice.Set(t.Context(), "other", "1", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("another key: %v", err)
	}
	set(t, s.Client(), "other", "1")
}

func TestMaxMemoryRefusesOrEvicts(t *testing.T) {
	t.Parallel()
	for policy, refuses := range map[string]bool{"noeviction": true, "allkeys-lru": false} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := Start(t, MaxMemory(3<<20, policy))
			value := strings.Repeat("x", 100_000)
			var err error
			for i := range 50 {
				if err = s.Client().Set(t.Context(), fmt.Sprint(i), value, 0).Err(); err != nil {
					break
				}
			}
			if refused := err != nil && strings.Contains(err.Error(), "OOM"); refused != refuses {
				t.Errorf("5 MB in 3 MiB: %v", err)
			}
		})
	}
}

// stand is a stand-in for a test that fails.
type stand struct {
	testing.TB
	cleanups []func()
	failed   bool
	log      strings.Builder
}

func (s *stand) Helper()           {}
func (s *stand) Cleanup(f func())  { s.cleanups = append(s.cleanups, f) }
func (s *stand) Failed() bool      { return s.failed }
func (s *stand) Fatal(args ...any) { s.Fatalf("%s", fmt.Sprint(args...)) }
func (s *stand) Fatalf(format string, args ...any) {
	s.failed = true
	s.Logf(format, args...)
	panic(s)
}
func (s *stand) Logf(format string, args ...any) { fmt.Fprintf(&s.log, format+"\n", args...) }

// logged returns what a test logs that does this.
func logged(t *testing.T, test func(testing.TB)) string {
	s := &stand{TB: t}
	func() {
		defer func() {
			if r := recover(); r != nil && r != any(s) {
				panic(r)
			}
		}()
		test(s)
	}()
	for i := len(s.cleanups); i > 0; i-- {
		s.cleanups[i-1]()
	}
	return s.log.String()
}

func TestFailedTestsLogWhatTheServerWrote(t *testing.T) {
	t.Parallel()
	if got := logged(t, func(tb testing.TB) { Start(tb) }); got != "" {
		t.Errorf("a test that passes logs %q", got)
	}
	got := logged(t, func(tb testing.TB) {
		s := Start(tb)
		s.Restart()
		tb.(*stand).failed = true
	})
	if n := strings.Count(got, "Ready to accept connections"); n != 2 {
		t.Errorf("a test that failed logs %q", got)
	}
	got = logged(t, func(tb testing.TB) { Start(tb, Config("no-such-setting 1")) })
	if !strings.Contains(got, "redis-server does not start") || !strings.Contains(got, "no-such-setting") {
		t.Errorf("a server that does not start logs %q", got)
	}
}

func TestTakenPortIsTriedAgainWithAnother(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	attempts := 0
	s := Start(t, func(s *settings) {
		if attempts++; attempts == 1 {
			s.lines = append(s.lines, "port "+port)
		}
	})
	set(t, s.Client(), "a", "1")
	if attempts != 2 {
		t.Errorf("%d attempts", attempts)
	}
}

func TestMissingRedisSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if got := logged(t, func(tb testing.TB) { Start(tb) }); !strings.Contains(got, "make setup") {
		t.Errorf("got %q", got)
	}
}

func TestWaitingInVainSaysForWhat(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	got := logged(t, func(tb testing.TB) {
		await(&hurried{tb, ctx}, "the end", func(context.Context) error { return os.ErrDeadlineExceeded })
	})
	if !strings.Contains(got, "in vain for the end: i/o timeout") {
		t.Errorf("got %q", got)
	}
}

// hurried is a test that ends early.
type hurried struct {
	testing.TB
	ctx context.Context
}

func (h *hurried) Context() context.Context { return h.ctx }
