package evstream

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// gauge reads a metric of a broker.
func gauge(t testing.TB, name, broker string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(metrics); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == broker {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of broker %s", name, broker)
	return 0
}

// beats reads so many heartbeats and nothing else.
func (s *caddyStream) beats(n int) {
	s.t.Helper()
	for range n {
		if e, err := s.events.Next(); err != nil || e.Type != "heartbeat" {
			s.t.Fatalf("got %s %s, %v, want a heartbeat", e.Type, e.Data, err)
		}
	}
}

// expectAmong fails the test if what comes after heartbeats is not data.
func (s *caddyStream) expectAmong(data string) {
	s.t.Helper()
	for {
		e, err := s.events.Next()
		if err != nil || string(e.Data) != data && e.Type != "heartbeat" {
			s.t.Fatalf("got %s %s, %v, want %s", e.Type, e.Data, err, data)
		}
		if e.Type != "heartbeat" {
			return
		}
	}
}

func TestWithoutRedisStreamsGoOnAndReadsSayThatTheyAreStale(t *testing.T) {
	server := redistest.Start(t, redistest.AppendOnly())
	n := startPair(t, server.Addr(), server.Addr(), "\t\theartbeat 1s event")
	n.ask("PUT", n.a+"v", `"kept"`)
	last := n.publish(n.a+"x", "before")
	after := header("Last-Event-ID", last)
	streams := []*caddyStream{subscribe(t, n.a+"x", after), subscribe(t, n.b+"x", after)}
	if up := gauge(t, "evstream_log_up", "a"); up != 1 {
		t.Errorf("evstream_log_up is %v", up)
	}

	server.Stop()
	for _, request := range [][3]string{{"POST", n.a + "x", "lost"}, {"PUT", n.b + "v", "1"}, {"PATCH", n.a + "w?incr=1", ""}, {"DELETE", n.b + "v", ""}} {
		answer, body := n.ask(request[0], request[1], request[2])
		if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s is answered %d %s, Retry-After %q", request[0], answer.StatusCode, body, answer.Header.Get("Retry-After"))
		}
	}
	for _, s := range streams {
		s.beats(2)
	}
	eventually(t, "the nodes to know that the log is out of reach", func() bool {
		return gauge(t, "evstream_log_up", "a") == 0 && gauge(t, "evstream_log_up", "b") == 0
	})
	began := time.Now()
	for range 50 { // which would wait for an attempt each
		answer, body := n.ask("POST", n.b+"x", "lost")
		n.wantUnavailable(answer, body, "the log is out of reach")
	}
	if took := time.Since(began); took > patience {
		t.Errorf("what is known is answered 50 times after %s", took)
	}

	for _, url := range []string{n.a, n.b} {
		stale := 0
		eventually(t, "the age of what is read to grow", func() bool {
			answer, body := n.ask("GET", url+"v", "")
			seconds, err := strconv.Atoi(answer.Header.Get("Evstream-Stale"))
			if answer.StatusCode != 200 || body != "\"kept\"\n" || answer.Header.Get("ETag") == "" || err != nil || seconds < max(1, stale) {
				t.Fatalf("read %d %s %v", answer.StatusCode, body, answer.Header)
			}
			grown := stale > 0 && seconds > stale
			stale = seconds
			return grown
		})
		answer, body := n.ask("GET", url+"v", "", header("Cache-Control", "no-cache"))
		n.wantUnavailable(answer, body, "the log is out of reach")
		if answer, body = n.ask("GET", url+"none", ""); answer.StatusCode != 404 || answer.Header.Get("Evstream-Stale") == "" {
			t.Errorf("a value that is not there is answered %d %s %v", answer.StatusCode, body, answer.Header)
		}
		if doc := n.info(url + "v"); doc.Stale < stale || !doc.Partial {
			t.Errorf("info is %+v", doc)
		}
		answer, body = n.ask("GET", url+"v?info", "", header("Cache-Control", "no-cache"))
		n.wantUnavailable(answer, body, "the log is out of reach")
		if _, body := n.ask("GET", strings.TrimSuffix(url, "/")+"/_channels", ""); !strings.Contains(body, `"stale":`) {
			t.Errorf("the list is %s", body)
		}
		if answer, body = n.ask("GET", url+"x?poll=1", ""); answer.StatusCode != 200 || answer.Header.Get("Evstream-Stale") == "" {
			t.Errorf("a poll is answered %d %s %v", answer.StatusCode, body, answer.Header)
		}
		// What this node has it serves, to who comes new and to who comes back.
		s := subscribe(t, url+"x?since=earliest")
		s.expectAmong("before")
		streams = append(streams, s, subscribe(t, url+"x", after))
	}

	server.Restart()
	mustPublish(t, n.a+"x", "after")
	for _, s := range streams {
		s.expectAmong("after")
	}
	n.awaitLoaded()
	if answer, body := n.ask("GET", n.b+"v", "", header("Cache-Control", "no-cache")); body != "\"kept\"\n" || answer.Header.Get("Evstream-Stale") != "" {
		t.Errorf("read %d %s %v", answer.StatusCode, body, answer.Header)
	}
	if up := gauge(t, "evstream_log_up", "b"); up != 1 {
		t.Errorf("evstream_log_up is %v", up)
	}
}

func TestCaddyStartsWithoutRedis(t *testing.T) {
	for name, fault := range map[string]func(*redistest.Proxy){
		"that nobody listens for":    (*redistest.Proxy).Cut,
		"that answers nothing":       (*redistest.Proxy).Freeze,
		"that takes only requests":   (*redistest.Proxy).DropReplies,
		"that answers after a while": func(p *redistest.Proxy) { p.Delay(1500 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			way := redistest.StartProxy(t, server.Addr())
			fault(way)
			n := newPair(t)
			adapter := sharedBy(way.Addr(), "")
			config := pairOf(n.address, adapter, adapter, "")
			config = strings.Replace(config, "broker b", "broker b\n\t\ton_overload 503", 1)
			load(t, config)
			s := connect(t, n.a+"x")
			if s.status != 200 {
				t.Errorf("a subscriber is answered %d", s.status)
			}
			s.ended()
			for _, request := range [][3]string{
				{"POST", n.a + "x", "1"},
				{"PUT", n.a + "v", "1"},
				{"PATCH", n.a + "v?incr=1", ""},
				{"GET", n.a + "v", ""},
				{"GET", n.a + "v?info", ""},
				{"GET", n.a + "_channels", ""},
				{"GET", n.a + "x?poll=1", ""},
			} {
				began := time.Now()
				for range 50 { // which would wait for an attempt each
					answer, body := n.ask(request[0], request[1], request[2])
					n.wantUnavailable(answer, body, "the log is being loaded")
				}
				if took := time.Since(began); took > patience {
					t.Errorf("%s %s is answered 50 times after %s", request[0], request[1], took)
				}
			}
			if up := gauge(t, "evstream_log_up", "a"); up != 0 {
				t.Errorf("evstream_log_up is %v", up)
			}
			h := theHub(t, "a")
			if h.Stats().Refusals["log"] == 0 {
				t.Errorf("turned away were %v", h.Stats().Refusals)
			}
			answer, body := n.ask("GET", n.b+"x", "", header("Accept", "text/event-stream"))
			n.wantUnavailable(answer, body, "the log is being loaded")
			if got := gauge(t, "evstream_nodes", "a"); got != 0 {
				t.Errorf("evstream_nodes is %v", got)
			}

			way.Heal()
			n.awaitLoaded()
			reader := subscribe(t, n.b+"x")
			n.publish(n.a+"x", "now")
			reader.expect("now")
		})
	}
}

func TestCaddyStopsWhileRedisDoesNotAnswer(t *testing.T) {
	server := redistest.Start(t)
	n := startPair(t, server.Addr(), server.Addr())
	s := subscribe(t, n.a+"x")
	server.Pause()
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	s.ended()
	noHubs(t)
}

func TestAWrongPasswordIsPutRightByAReload(t *testing.T) {
	server := redistest.Start(t, redistest.Password("right & wronged"))
	log := filepath.Join(t.TempDir(), "log")
	n := newPair(t)
	config := func(password string) string {
		adapter := sharedBy(server.Addr(), "\t\t\tpassword \""+password+"\"")
		inURL := "\t\tadapter redis redis://:" + strings.ReplaceAll(password, " ", "%20") + "@" + server.Addr() + " {\n\t\t\tprefix shared\n\t\t}\n"
		return pairOf(n.address, adapter, inURL, "")
	}
	config1 := strings.Replace(config("mistaken"), "admin off", "admin off\n\tlog {\n\t\toutput file "+log+"\n\t}", 1)
	load(t, config1)
	a, b := theHub(t, "a"), theHub(t, "b")
	answer, body := n.ask("POST", n.a+"x", "1")
	n.wantUnavailable(answer, body, "the log is being loaded")
	written := ""
	eventually(t, "the log to say why", func() bool {
		text, err := os.ReadFile(log)
		written = string(text)
		return err == nil && strings.Count(written, "WRONGPASS") >= 2
	})
	for _, config := range []string{config("mistyped"), config("right & wronged")} {
		if err := reload(t, config); err != nil {
			t.Fatal(err)
		}
	}
	n.awaitLoaded()
	if theHub(t, "a") != a || theHub(t, "b") != b {
		t.Error("the hubs are other ones")
	}
	reader := subscribe(t, n.b+"x")
	n.publish(n.a+"x", "in")
	reader.expect("in")

	// One that is given up again leaves what was.
	wrong := strings.Replace(string(adapt(t, config("mistaken"))), `"admin":{"disabled":true`,
		`"admin":{"disabled":true,"remote":{"listen":"nonsense:99999999"}`, 1)
	if err := reloadJSON(t, []byte(wrong)); err == nil {
		t.Fatal("the reload succeeded")
	}
	n.kill(server)
	mustPublish(t, n.a+"x", "still")
	reader.expect("still")
	if strings.Contains(written, "mistaken") {
		t.Errorf("the password is in the log: %s", written)
	}
}

// kill ends all connections to a server but that which says so.
func (n *pair) kill(server *redistest.Server) {
	n.t.Helper()
	if err := server.Client().Do(n.t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		n.t.Fatal(err)
	}
}

func TestAPasswordThatChangesInItsFileNeedsNoReload(t *testing.T) {
	server := redistest.Start(t, redistest.Password("first"))
	name := writeFile(t, "first\n")
	n := newPair(t)
	load(t, pairOf(n.address, sharedBy(server.Addr(), "\t\t\tpassword {file."+name+"}"),
		"\t\tadapter redis redis://:{file."+name+"}@"+server.Addr()+" {\n\t\t\tprefix shared\n\t\t}\n", ""))
	n.awaitLoaded()
	reader := subscribe(t, n.b+"x")
	for i := range 3 {
		password := fmt.Sprint("password ", i)
		server.SetPassword(password)
		if err := os.WriteFile(name, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.kill(server)
		mustPublish(t, n.a+"x", password)
		reader.expect(password)
	}
}

func TestAReloadKeepsTheLogInRedis(t *testing.T) {
	server := redistest.Start(t)
	n := startPair(t, server.Addr(), server.Addr())
	a := theHub(t, "a")
	reader := subscribe(t, n.a+"x")
	for i, more := range []string{"\t\t\tmax_size 2MiB", "\t\t\tlive_age 2m", "\t\t\tdb 0\n\t\t\tmax_size unlimited"} {
		if err := reload(t, pairOf(n.address, sharedBy(server.Addr(), more), sharedBy(server.Addr(), ""), "")); err != nil {
			t.Fatal(err)
		}
		if theHub(t, "a") != a {
			t.Errorf("%s: the hub is another one", more)
		}
		mustPublish(t, n.b+"x", fmt.Sprint(i)) // a reload may close a connection
		reader.expect(fmt.Sprint(i))
	}
	// A wait for a replica that there is not leaves the outcome open.
	if err := reload(t, pairOf(n.address, sharedBy(server.Addr(), "\t\t\twait 1 10ms"), sharedBy(server.Addr(), ""), "")); err != nil {
		t.Fatal(err)
	}
	answer, body := n.ask("POST", n.a+"x", "perhaps")
	if answer.StatusCode != 503 || !strings.Contains(body, `"outcome":"unknown"`) || !strings.Contains(body, `"detail":"the outcome is unknown"`) {
		t.Errorf("answered %d %s", answer.StatusCode, body)
	}
	reader.expect("perhaps")
	// Another database is another log.
	if err := reload(t, pairOf(n.address, sharedBy(server.Addr(), "\t\t\tdb 1"), sharedBy(server.Addr(), ""), "")); err != nil {
		t.Fatal(err)
	}
	reader.ended()
	if theHub(t, "a") == a {
		t.Error("the hub is the same")
	}
	if answer, _ := n.ask("GET", n.a+"x?info", ""); answer.StatusCode != http.StatusNotFound {
		t.Error("the other log has what this one had")
	}
}
