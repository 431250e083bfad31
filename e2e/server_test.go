package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/nettest"
)

// server is a Caddy in a process of its own.
type server struct {
	t        testing.TB
	admin    string // addresses
	plain    string
	attached string
	tls      string
	log      *logged
	cmd      *exec.Cmd
	exited   chan struct{} // closed when the process has ended, and err is set
	err      error
	begun    time.Time // when the process was started
}

// config is a Caddyfile with what every server here needs. In it {{admin}},
// {{plain}}, {{attached}} and {{tls}} stand for addresses; the site is served at
// the last three. At {{attached}} no stream is detached.
func config(global, site string) string {
	page := `
	header /page Content-Type "text/html; charset=utf-8"
	respond /page "<!doctype html><title>e2e</title>"
`
	return `{
	admin {{admin}}
	persist_config off
	skip_install_trust
	auto_https disable_redirects
` + global + `
}
(site) {
` + page + site + `
}
http://{{plain}} {
	import site
}
http://{{attached}} {
` + page + handlers.ReplaceAllString(site, "$0\n\t\tdelivery attached") + `
}
https://{{tls}} {
	tls internal
	import site
}
`
}

// handlers finds where the blocks of handlers begin.
var handlers = regexp.MustCompile(`(?m)^\s*evstream .*\{$`)

// start runs Caddy until the test ends. It must exit without an error, and must not
// have had a data race.
func start(t testing.TB, caddyfile string) *server {
	t.Helper()
	// Another process may take a free address before Caddy does.
	for attempt := 1; ; attempt++ {
		s := launch(t, caddyfile)
		for !s.log.contains("serving initial configuration") {
			select {
			case <-s.exited:
			case <-time.After(5 * time.Millisecond):
				if time.Since(s.begun) < patience {
					continue
				}
				s.kill()
			}
			break
		}
		if s.log.contains("serving initial configuration") {
			t.Cleanup(s.finish)
			// The certificate is made in the background.
			eventually(t, "a TLS handshake", func() bool {
				if !strings.Contains(caddyfile, "{{tls}}") {
					return true
				}
				c, err := tls.Dial("tcp", s.tls, insecure)
				if err == nil {
					_ = c.Close()
				}
				return err == nil
			})
			return s
		}
		if attempt == 3 || !s.log.contains("address already in use") {
			t.Fatalf("Caddy does not start: %v\n%s", s.err, s.log)
		}
	}
}

func launch(t testing.TB, caddyfile string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{
		t: t, admin: freeAddress(t), plain: freeAddress(t), attached: freeAddress(t), tls: freeAddress(t),
		log: new(logged),
	}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(s.fill(caddyfile)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(dir, file)
	return s
}

// run starts the process.
func (s *server) run(dir, file string) {
	s.t.Helper()
	s.exited = make(chan struct{})
	s.cmd = exec.Command(caddyBinary, "run", "--config", file, "--adapter", "caddyfile")
	s.cmd.Dir = ".." // as README says: from the repository's root
	s.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir,
		// By default a program with the race detector sleeps for 1 s before it exits.
		"GORACE=atexit_sleep_ms=50")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = mortal()
	s.begun = time.Now()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := s.exited
	go func() {
		s.err = s.cmd.Wait()
		close(exited)
	}()
}

// restart starts the process again that was killed, on the same addresses.
func (s *server) restart() {
	s.t.Helper()
	s.log = new(logged)
	file := s.cmd.Args[3]
	s.run(filepath.Dir(file), file)
	eventually(s.t, "Caddy serves again", func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("Caddy does not start again: %v\n%s", s.err, s.log)
		default:
		}
		return s.log.contains("serving initial configuration")
	})
}

// fill replaces the placeholders of addresses.
func (s *server) fill(caddyfile string) string {
	return strings.NewReplacer(
		"{{admin}}", s.admin, "{{plain}}", s.plain, "{{attached}}", s.attached, "{{tls}}", s.tls,
	).Replace(caddyfile)
}

// ports counts the ports that were used, each once.
var ports atomic.Int32

func init() { ports.Store(rand.Int32N(12_000)) }

// freeAddress finds an address on which nobody listens, over TCP and UDP. The port
// is below those that the system gives to clients, of which the tests have
// thousands: one of them could get it before Caddy does.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+int(ports.Add(1)%12_000)))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		packets, err := net.ListenPacket("udp", address)
		_ = l.Close()
		if err == nil {
			_ = packets.Close()
			return address
		}
	}
	t.Fatal("no address is free")
	return ""
}

// terminate tells the process to exit.
func (s *server) terminate() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
}

// wait waits for the process, which must exit without an error, and returns how
// long that took.
func (s *server) wait() time.Duration {
	s.t.Helper()
	begun := time.Now()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Errorf("Caddy does not exit")
		s.kill()
	}
	if s.err != nil {
		s.t.Errorf("Caddy exits with %v", s.err)
	}
	return time.Since(begun)
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// finish ends the process at the end of the test.
func (s *server) finish() {
	s.terminate()
	s.wait()
	for _, bad := range []string{"WARNING: DATA RACE", "panic"} {
		if s.log.contains(bad) {
			s.t.Errorf("Caddy says %q", bad)
		}
	}
	if s.t.Failed() {
		s.t.Logf("Caddy's log:\n%s", s.log)
	}
}

// reload runs another Caddyfile.
func (s *server) reload(caddyfile string) {
	s.t.Helper()
	body := strings.NewReader(s.fill(caddyfile))
	answer, err := plainClient(s.t).Post("http://"+s.admin+"/load", "text/caddyfile", body)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
		s.t.Fatalf("reload: %s: %s", answer.Status, text)
	}
	nettest.Settled(s.t, s.cmd.Process.Pid)
}

// get reads a URL.
func get(t testing.TB, url string) string {
	t.Helper()
	answer, err := plainClient(t).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v: %s", url, answer.Status, err, body)
	}
	return string(body)
}

// metric reads one value, such as evstream_connections{broker="default"}.
func (s *server) metric(name string) int {
	s.t.Helper()
	for line := range strings.Lines(get(s.t, "http://"+s.admin+"/metrics")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return int(n)
		}
	}
	return 0
}

// disconnects is how many streams ended for a reason.
func (s *server) disconnects(reason string) int {
	s.t.Helper()
	return s.metric(fmt.Sprintf(`evstream_disconnects_total{broker="default",reason=%q}`, reason))
}

// publisher publishes numbers, one after the other, so that the log has them in
// order. Like a backend, it retries with the same idempotency key.
type publisher struct {
	client *http.Client
	base   string // the URL beneath which channels lie
	key    string
	last   int // the number that was published last
}

// publish publishes the next number.
func (p *publisher) publish(channel string) error {
	next := p.last + 1
	err := p.post(channel, fmt.Sprint(next))
	if err == nil {
		p.last = next
	}
	return err
}

// post publishes data. The channel may have a query.
func (p *publisher) post(channel, data string) error {
	var err error
	for range 5 {
		var again bool
		if again, err = p.try(channel, data); !again {
			return err
		}
	}
	return err
}

func (p *publisher) try(channel, data string) (again bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/"+channel, strings.NewReader(data))
	if err != nil {
		return false, err
	}
	if p.key != "" {
		r.Header.Set("Idempotency-Key", fmt.Sprintf("%s-%d", p.key, p.last+1))
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return p.key != "", err
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return p.key != "" && err != nil, fmt.Errorf("publishing: %s: %s, %w", answer.Status, text, err)
	}
	return false, nil
}

// logged is the output of a process.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.buf.Bytes(), []byte(s))
}

// String returns what was written last. The access log is left out.
func (l *logged) String() string {
	var kept []string
	for _, line := range l.lines() {
		if !strings.Contains(line, `"http.log.access"`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-200):], "\n")
}

// lines returns the lines that were written so far.
func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(l.buf.String(), "\n")
}
