package evstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/nettest"
)

// caddyProcess is a Caddy of its own, with its admin endpoint.
type caddyProcess struct {
	t     testing.TB
	admin string
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan error
}

// startCaddy runs a Caddyfile in a process, until the test ends.
func startCaddy(t testing.TB, config func(admin string) string) *caddyProcess {
	t.Helper()
	dir := t.TempDir()
	p := &caddyProcess{t: t, admin: freeAddress(t), ended: make(chan error, 1)}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config(p.admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0], "run", "--config", file, "--adapter", "caddyfile")
	p.cmd.Env = append(os.Environ(), "EVSTREAM_TEST_CADDY=1", "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		if p.cmd.Process.Kill() == nil {
			<-p.ended
		}
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", p.log.String())
		}
	})
	eventually(t, "Caddy to run", func() bool {
		resp, err := http.Get("http://" + p.admin + "/config/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && len(body) > 10
	})
	return p
}

// load replaces the configuration.
func (p *caddyProcess) load(config string) {
	p.t.Helper()
	status, body := send(p.t, http.MethodPost, "http://"+p.admin+"/load", config, header("Content-Type", "text/caddyfile"))
	if status != http.StatusOK {
		p.t.Fatalf("loading: status %d: %s", status, body)
	}
	nettest.Settled(p.t, p.cmd.Process.Pid)
}

// stop asks the process to exit and waits until it has.
func (p *caddyProcess) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		p.ended <- err
		if err != nil {
			p.t.Errorf("Caddy ended with %v", err)
		}
	case <-time.After(patience):
		p.t.Fatal("Caddy does not exit")
	}
}

// withAdmin is site with the admin endpoint on, and no grace period.
func withAdmin(admin, address, global, block string) string {
	return fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n%s\n}\nhttp://%s {\n\tevstream /live/* {\n%s\n\t}\n}\n",
		admin, global, address, block)
}

func TestExitEndsStreamsOfAllConfigurations(t *testing.T) {
	address := freeAddress(t)
	const block = allowAnything + "\n\t\tdrain 700ms"
	config := func(global string) func(string) string {
		return func(admin string) string { return withAdmin(admin, address, global, block) }
	}
	p := startCaddy(t, config(""))
	var streams []*caddyStream
	open := func() {
		for range 50 {
			streams = append(streams, subscribe(t, "http://"+address+"/live/a"))
		}
	}
	open()
	for i := range 3 {
		p.load(config(fmt.Sprintf("\tevstream {\n\t\tmax_connections_per_ip %d\n\t}", i+10))(p.admin))
		open()
	}
	streams = append(streams, subscribe(t, "http://"+p.admin+"/evstream/a", header("Host", p.admin)))
	p.stop()
	for _, s := range streams {
		s.ended()
	}
}

func TestExitIsBoundedByTheGracePeriod(t *testing.T) {
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "\tgrace_period 500ms", allowAnything+"\n\t\tdrain 60s")
	})
	streams := []*caddyStream{subscribe(t, "http://"+address+"/live/a"), subscribe(t, "http://"+address+"/live/a")}
	p.stop()
	for _, s := range streams {
		s.ended()
	}
}

// What never ends by itself must not hold up an exit, which has no grace
// period by default.
func TestExitWaitsForNobody(t *testing.T) {
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "", allowAnything+"\n\t\tdrain 200ms")
	})
	url := "http://" + address + "/live/a"

	// One that publishes without end.
	body, writer := io.Pipe()
	defer writer.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	published := make(chan struct{})
	go func() {
		defer close(published)
		if resp, err := client.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	reading := subscribe(t, url)
	if _, err := writer.Write([]byte("1\n")); err != nil {
		t.Fatal(err)
	}
	reading.next()

	// One that polls.
	accept := header("Accept", "application/json")
	var first struct {
		LastEventID string `json:"last_event_id"`
	}
	if _, answer := send(t, http.MethodGet, url+"?poll=1", "", accept); json.Unmarshal([]byte(answer), &first) != nil {
		t.Fatalf("the first poll is answered %s", answer)
	}
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"?poll=1&timeout=60s&last_event_id="+first.LastEventID, nil)
		if err != nil {
			return
		}
		accept(req)
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, "the poll to wait", func() bool {
		_, info := send(t, http.MethodGet, "http://"+p.admin+"/evstream/a?info", "", accept)
		return strings.Contains(info, `"subscribers":2`)
	})

	p.stop()
	reading.ended()
	<-polled
	writer.Close()
	<-published
}

// A subscriber that does not read any more blocks its stream in a write, which may take
// longer than there is patience for the exit.
func TestExitWaitsForNoStalledReader(t *testing.T) {
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "", allowAnything+"\n\t\tdrain 200ms\n\t\twrite_timeout 10m")
	})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /live/a HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", address)
	accept := header("Accept", "application/json")
	eventually(t, "the stream to be open", func() bool {
		_, info := send(t, http.MethodGet, "http://"+p.admin+"/evstream/a?info", "", accept)
		return strings.Contains(info, `"subscribers":1`)
	})
	// More than the sockets' buffers hold.
	data := strings.Repeat("x", 200<<10)
	for range 60 {
		if status, body := post(t, "http://"+p.admin+"/evstream/a", data); status != http.StatusOK {
			t.Fatalf("publishing: %d %s", status, body)
		}
	}
	p.stop()
}

// A client that reads nothing from its HTTP/2 connection is not told either that
// its stream was aborted.
func TestExitWaitsForNoStuckConnectionOfHTTP2(t *testing.T) {
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "\tservers {\n\t\tprotocols h1 h2c\n\t}", allowAnything+"\n\t\tdrain 200ms\n\t\twrite_timeout 10m")
	})
	deaf, over := make(chan struct{}), make(chan struct{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols,
		HTTP2:     &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 30}, // its streams are not what holds it up
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return nettest.Deaf{Conn: conn, Since: deaf, Until: over}, conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		},
	}
	defer transport.CloseIdleConnections()
	defer close(over)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/live/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	header("Accept", "text/event-stream")(r)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Proto, resp.Status)
	}
	close(deaf)
	data := strings.Repeat("x", 200<<10)
	for range 60 { // more than the sockets' buffers hold
		if status, body := post(t, "http://"+p.admin+"/evstream/a", data); status != http.StatusOK {
			t.Fatalf("publishing: %d %s", status, body)
		}
	}
	p.stop()
}
