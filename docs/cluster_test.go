package docs

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// The quick start runs the script that it shows; what comes after the first
// Caddyfile runs in this process, with a Redis of its own. redis-cli is run,
// too, and a conf has to start a Redis.
func TestTheClusterPageIsTrue(t *testing.T) {
	for _, program := range []string{"curl", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("there is no %s: make setup installs it", program)
		}
	}
	t.Setenv("REDIS_PASSWORD", "a password")
	all := fences(t, "docs/cluster.md")
	first := slices.IndexFunc(all, func(f fence) bool { return f.lang == "caddyfile" })
	t.Run("the quick start", func(t *testing.T) { quickStart(t, all[:first]) })
	t.Run("the rest", func(t *testing.T) { clusterPage(t, all[first:]) })
}

// quickStart runs the script, and the commands against what it starts.
func quickStart(t *testing.T, all []fence) {
	base := redistest.FreePorts(t, 0, 1, 2, 3, 11, 12, 13, 20)
	d := &document{grown: make(chan struct{}, 1)}
	var ports []string
	for i := range 4 {
		ports = append(ports, fmt.Sprint("localhost:", 8080+i), fmt.Sprint("localhost:", base+i))
	}
	d.site = ports[1]
	here := strings.NewReplacer(ports...)
	for _, f := range all {
		if f.lang == "sh" && strings.HasPrefix(f.text, "examples/cluster/run.sh") {
			runCluster(t, base)
			d.running = true
			continue
		}
		f.text = here.Replace(f.text)
		d.try(t, f)
		if t.Failed() {
			return // what follows builds on it
		}
	}
	d.shown(t, all[len(all)-1])
}

// runCluster runs the script of the example until the test ends.
func runCluster(t *testing.T, base int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said := &script{ready: make(chan struct{})}
	cmd := exec.CommandContext(t.Context(), "examples/cluster/run.sh")
	cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(base), "CADDY="+self, "EVSTREAM_TEST_CADDY=1", "HOME="+t.TempDir())
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // which ends all that it has started
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is ended by the signal
		close(ended)
	}()
	t.Cleanup(func() { // the context has ended
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the script does not end")
		}
	})
	select {
	case <-said.ready:
	case <-ended:
		t.Fatalf("the script has ended:\n%s", said)
	case <-time.After(3 * patience):
		t.Fatalf("the cluster does not come up:\n%s", said)
	}
}

// script is what a script says.
type script struct {
	ready chan struct{} // closed when it says that the cluster is up

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := bytes.Contains(s.out.Bytes(), []byte("the scoreboard is at"))
	n, err := s.out.Write(p)
	if !before && bytes.Contains(s.out.Bytes(), []byte("the scoreboard is at")) {
		close(s.ready)
	}
	return n, err
}

func (s *script) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// clusterPage tries what comes after the quick start.
func clusterPage(t *testing.T, all []fence) {
	server := redistest.Start(t)
	_, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	d := documentAt(t)
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	here := strings.NewReplacer("redis://localhost:6379", "redis://"+server.Addr(), "redis-cli ", "redis-cli -p "+port+" ")
	for _, f := range all {
		f.text = here.Replace(f.text)
		switch {
		case f.lang == "conf":
			redistest.Start(t, redistest.Config(strings.Split(strings.TrimSpace(f.text), "\n")...))
		case f.lang == "sh" && strings.HasPrefix(f.text, "redis-cli "):
			redisCommand(t, f)
		default:
			d.try(t, f)
		}
		if t.Failed() {
			return // what follows builds on it
		}
	}
	d.shown(t, all[len(all)-1])
	denied, err := server.Client().Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(denied) > 0 {
		t.Errorf("the user was denied: %v, %v", denied, err)
	}
}

// redisCommand runs a command of redis-cli, and knows what it has to say.
func redisCommand(t *testing.T, f fence) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", f.text).CombinedOutput()
	said := strings.TrimSpace(string(out))
	ok := said != ""
	switch {
	case strings.Contains(f.text, "SETUSER"):
		ok = said == "OK"
	case strings.Contains(f.text, "HGET"):
		ok = said == "42"
	case strings.Contains(f.text, "XREVRANGE"):
		ok = strings.Contains(said, "user-count")
	case strings.Contains(f.text, "--scan"):
		for key := range strings.Lines(said) {
			ok = ok && namedKey(t, strings.TrimSpace(key))
		}
	default:
		ok = false
	}
	if err != nil || !ok {
		t.Errorf("%s: %v\n%s", f, err, out)
	}
}

// namedKey reports whether the page says what a key is.
func namedKey(t *testing.T, key string) bool {
	t.Helper()
	page := clusterText(t)
	name, ok := strings.CutPrefix(key, "{evstream:default}:")
	node, ofNode := strings.CutPrefix(name, "n:")
	if ofNode && regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(node) {
		name = "n:NODE"
	}
	if regexp.MustCompile(`^k[0-5]$`).MatchString(name) {
		name = "k0"
	}
	return ok && strings.Contains(page, "`…:"+name+"`")
}

func clusterText(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// TestTheClusterPageNamesWhatThereIs compares the page with the code.
func TestTheClusterPageNamesWhatThereIs(t *testing.T) {
	page := clusterText(t)

	// The rules of a user are those that Config documents, which are tested.
	source, err := os.ReadFile("redisadapter/config.go")
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`\+[a-z]+(?:\|[a-z]+)?`)
	_, documented, _ := strings.Cut(string(source), "ACL SETUSER")
	documented, _, _ = strings.Cut(documented, "//\n")
	_, shown, _ := strings.Cut(page, "ACL SETUSER")
	shown, _, _ = strings.Cut(shown, "```")
	want, got := rule.FindAllString(documented, -1), rule.FindAllString(shown, -1)
	if len(want) == 0 || !slices.Equal(want, got) {
		t.Errorf("the user may do\n%q, and needs\n%q", got, want)
	}

	// So are the keys.
	if source, err = os.ReadFile("redisadapter/doc.go"); err != nil {
		t.Fatal(err)
	}
	for _, key := range regexp.MustCompile(`(?m)^//\t\{evstream:chat\}:(\w+)`).FindAllSubmatch(source, -1) {
		if !strings.Contains(page, "`…:"+string(key[1])) {
			t.Errorf("key %s is missing", key[1])
		}
	}

	operations, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range regexp.MustCompile(`\bevstream_[a-z_]+`).FindAllString(page, -1) {
		if !bytes.Contains(operations, []byte("`"+metric+"`")) {
			t.Errorf("there is no metric %s", metric)
		}
	}

	var code []byte
	for _, pattern := range []string{"redisadapter/*.go", "broker/*.go", "presence/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, text...)
		}
	}
	lines := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (error|warn|info) \\|").FindAllStringSubmatch(page, -1)
	if len(lines) == 0 {
		t.Error("no lines of the log are shown")
	}
	for _, line := range lines {
		level := strings.ToUpper(line[2][:1]) + line[2][1:]
		if !bytes.Contains(code, []byte("."+level+"(\""+line[1]+"\"")) &&
			!bytes.Contains(code, []byte("slog.Level"+level+", \""+line[1]+"\"")) {
			t.Errorf("nothing logs %q as %s", line[1], line[2])
		}
	}
}
