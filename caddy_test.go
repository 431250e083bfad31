package evstream

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/nettest"
	"github.com/evstream/caddy-evstream/sse"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// The test binary is a Caddy, too, for the tests that need a process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Getenv("EVSTREAM_TEST_CADDY") != "" {
		caddycmd.Main()
		return
	}
	// Most of what runs in parallel waits for a client or a process.
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(testIn(m))
}

// testIn runs the tests with what Caddy stores in a directory of their own.
func testIn(m *testing.M) int {
	dir, err := os.MkdirTemp("", "evstream")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv("XDG_DATA_HOME", dir)
	os.Setenv("XDG_CONFIG_HOME", dir)
	caddy.DefaultStorage.Path = dir
	return m.Run()
}

// adapt turns a Caddyfile into JSON.
func adapt(t testing.TB, caddyfile string) []byte {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatalf("adapting: %v", err)
	}
	return config
}

// validate adapts and provisions a Caddyfile, and cleans up.
func validate(t testing.TB, caddyfile string) error {
	t.Helper()
	return validateJSON(t, string(adapt(t, caddyfile)))
}

// validateJSON provisions a configuration, and cleans up.
func validateJSON(t testing.TB, config string) error {
	t.Helper()
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(config), &cfg); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(cfg)
}

// load runs a Caddyfile in place of what runs, and stops it when the test ends.
func load(t testing.TB, caddyfile string) {
	t.Helper()
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := reload(t, caddyfile); err != nil {
		t.Fatal(err)
	}
}

// reload runs a Caddyfile in place of what runs.
func reload(t testing.TB, caddyfile string) error {
	t.Helper()
	return reloadJSON(t, adapt(t, caddyfile))
}

// reloadJSON runs a configuration in place of what runs. When it returns, only
// one of them listens.
func reloadJSON(t testing.TB, config []byte) error {
	t.Helper()
	defer nettest.Settled(t, os.Getpid())
	return caddy.Load(config, true)
}

// options are global options for tests; more may be given.
func options(more string) string {
	return "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 30s\n" + more + "\n}\n"
}

// ports counts the ports that were given out: each is, once in a run.
var ports atomic.Int32

func init() { ports.Store(rand.Int32N(7_000)) }

// freeAddress finds an address that nobody listens on, below those that the
// system gives to clients: one of them could take it before Caddy does.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(3_000+int(ports.Add(1)%7_000)))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no address is free")
	return ""
}

// client waits for as long as a stream lasts.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// caddyStream reads a stream.
type caddyStream struct {
	t      testing.TB
	status int
	header http.Header
	read   *counter
	events *sse.Decoder
	cancel context.CancelFunc
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// subscribe opens a stream and reads its opening event. Options change the
// request.
func subscribe(t testing.TB, url string, change ...func(*http.Request)) *caddyStream {
	t.Helper()
	s := connect(t, url, change...)
	if s.status != http.StatusOK {
		t.Fatalf("GET %s: status %d", url, s.status)
	}
	if e, err := s.events.Next(); err != nil || e.Type != "evstream.open" {
		t.Fatalf("the stream opens with %+v, %v", e, err)
	}
	return s
}

// connect opens a stream.
func connect(t testing.TB, url string, change ...func(*http.Request)) *caddyStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, f := range change {
		f(r)
	}
	resp, err := client.Do(r)
	for err != nil { // a reload may close a connection before its request is read
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		resp, err = client.Do(r)
	}
	t.Cleanup(func() { resp.Body.Close() })
	read := &counter{Reader: resp.Body}
	return &caddyStream{
		t: t, status: resp.StatusCode, header: resp.Header,
		read: read, events: sse.NewDecoder(read, 1<<20), cancel: cancel,
	}
}

// next returns the data of the next event that is not the hub's own.
func (s *caddyStream) next() string {
	s.t.Helper()
	for {
		e, err := s.events.Next()
		if err != nil {
			s.t.Fatalf("waiting for an event: %v", err)
		}
		if !strings.HasPrefix(e.Type, "evstream.") {
			return string(e.Data)
		}
	}
}

// expect fails the test if the next event is not data.
func (s *caddyStream) expect(data string) {
	s.t.Helper()
	if got := s.next(); got != data {
		s.t.Fatalf("got event %q, want %q", got, data)
	}
}

// ended reads to the end of the stream, which must have told a retry, and
// fails the test on an event.
func (s *caddyStream) ended() {
	s.t.Helper()
	for {
		e, err := s.events.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.t.Fatalf("waiting for the end: %v", err)
		}
		if !strings.HasPrefix(e.Type, "evstream.") {
			s.t.Fatalf("got event %q, want the end", e.Data)
		}
	}
	if s.events.Retry() <= 0 {
		s.t.Error("the stream ended without a retry")
	}
}

// header sets a header of a request.
func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if name == "Host" {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

// post publishes an event and returns the status of the answer and its body.
func post(t testing.TB, url, data string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	return send(t, http.MethodPost, url, data, change...)
}

// send makes a request with a short answer.
func send(t testing.TB, method, url, body string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	resp, got, err := answerOf(t, method, url, body, change...)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, got
}

// answerOf makes a request with a short answer, whose body it reads.
func answerOf(t testing.TB, method, url, body string, change ...func(*http.Request)) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := client.Do(r)
	if errors.Is(err, io.EOF) && method == http.MethodGet {
		// Around a reload Caddy may close a new connection unread.
		resp, err = client.Do(r)
	}
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp, string(got), err
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// noHubs fails the test if a hub or a reference is left.
func noHubs(t testing.TB) {
	t.Helper()
	if left := hubs.all(); len(left) > 0 {
		t.Errorf("%d hubs are left", len(left))
	}
	pool.Range(func(key, _ any) bool {
		t.Errorf("the pool still holds %+v", key)
		return true
	})
}

// theHub returns the one hub of a broker.
func theHub(t testing.TB, name string) *hub.Hub {
	t.Helper()
	var found *hub.Hub
	for _, h := range hubs.all() {
		if h.Name() != name {
			continue
		}
		if found != nil {
			t.Fatalf("there are two hubs %q", name)
		}
		found = h.Hub
	}
	if found == nil {
		t.Fatalf("there is no hub %q", name)
	}
	return found
}

// site is a Caddyfile of one site with one handler.
func site(address, global, block string) string {
	return options(global) + fmt.Sprintf("http://%s {\n\tevstream /live/* {\n%s\n\t}\n}\n", address, block)
}

// mustPublish posts an event as often as it takes: around a reload a request
// may reach a server that is about to go, which refuses it or closes the
// connection. The key, made of the data, keeps the event from being published
// twice.
func mustPublish(t testing.TB, url, data string, change ...func(*http.Request)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	last := 0 // status
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(data))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("Idempotency-Key", fmt.Sprintf("%x", data))
		for _, f := range change {
			f(r)
		}
		resp, err := client.Do(r)
		if ctx.Err() != nil {
			t.Errorf("publishing in vain: %v, last %d", err, last)
			return
		}
		if err != nil {
			continue
		}
		resp.Body.Close()
		if last = resp.StatusCode; last == http.StatusOK {
			return
		}
	}
}
