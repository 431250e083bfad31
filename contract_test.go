package evstream

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/stream"
)

// The contract over HTTP is the same under Caddy and under a plain net/http
// server: the tests in contract_*_test.go run over both, and requests go over
// real connections.

// Secrets and rules of the site that most tests use.
const (
	backendSecret = "backend-secret"
	guestSecret   = "guest-secret"
)

var testRules = []AllowRule{
	{Who: "anyone", Do: []string{"subscribe"}, Channels: []string{"public/**", "match.*"}},
	{Who: "backend", Do: []string{"publish", "purge", "subscribe"}, Channels: []string{"**"}},
}

// rulesOf reads rules as they stand behind allow.
func rulesOf(lines ...string) []AllowRule {
	var rules []AllowRule
	for _, line := range lines {
		r, err := parseRule(strings.Fields(line))
		if err != nil {
			panic(err)
		}
		rules = append(rules, r)
	}
	return rules
}

// plainPath is answered by the server itself, with {}.
const plainPath = "/none"

// siteConfig is what a test has a server serve.
type siteConfig struct {
	handler *Handler
	broker  *BrokerConfig

	http2    bool          // also HTTP/2, in the clear
	timeout  time.Duration // of reading and of writing, in all and idle; 0 is none
	bodyIdle time.Duration // of a body, where the server has such a timeout, as Caddy does
	admin    bool          // also serve the handler that allows everything, at testSite.admin

	// What Caddy takes from modules, and a program with net/http from functions:
	// the handlers in front and the user that they find, and the matchers of rules.
	front    []any
	outer    func(*http.Request) string
	matchers map[string]func(*http.Request) bool

	host httpapi.Host // of newTestHandler; nil is that of net/http
}

// newSiteConfig has the rules and secrets that most tests use.
func newSiteConfig(configure ...func(*siteConfig)) *siteConfig {
	c := &siteConfig{
		handler: &Handler{
			Mount:     "/live",
			Allow:     testRules,
			Bearers:   map[string]string{"backend": backendSecret, "guest": guestSecret},
			Heartbeat: caddy.Duration(time.Minute),
			RetryMin:  caddy.Duration(2 * time.Second),
			RetryMax:  caddy.Duration(2 * time.Second),
		},
		broker: new(BrokerConfig),
	}
	for _, change := range configure {
		change(c)
	}
	return c
}

// withRules serves other rules.
func withRules(lines ...string) func(*siteConfig) {
	return func(c *siteConfig) { c.handler.Allow = rulesOf(lines...) }
}

// withBearers accepts other secrets.
func withBearers(secrets map[string]string) func(*siteConfig) {
	return func(c *siteConfig) { c.handler.Bearers = secrets }
}

// withHTTP2 serves HTTP/2, too.
func withHTTP2(c *siteConfig) { c.http2 = true }

// server is a kind of server that a test runs over.
type server struct {
	name  string
	serve func(testing.TB, *siteConfig) *testSite
}

// servers are all kinds.
var servers = []server{{"caddy", serveCaddy}, {"net/http", serveNetHTTP}}

// eachServer runs a test over each kind of server.
func eachServer(t *testing.T, test func(t *testing.T, on server)) {
	t.Helper()
	for _, on := range servers {
		t.Run(on.name, func(t *testing.T) { test(t, on) })
	}
}

// start serves a site at /live, with a hub of its own, until the test ends or
// another is started.
func (on server) start(t testing.TB, configure ...func(*siteConfig)) *testSite {
	t.Helper()
	return on.serve(t, newSiteConfig(configure...))
}

// testSite is a site that is served.
type testSite struct {
	address string
	url     string // without a path
	admin   string // the URL of the handler that allows everything, with its mount

	adminAddress string
	hub          *hub.Hub
	wire         wire
}

func newTestSite(t testing.TB, address, admin string, h *hub.Hub) *testSite {
	s := &testSite{address: address, url: "http://" + address, admin: "http://" + admin + adminMount, adminAddress: admin, hub: h}
	s.wire.address = address
	t.Cleanup(s.wire.close)
	return s
}

// serveCaddy serves a site with Caddy.
func serveCaddy(t testing.TB, c *siteConfig) *testSite {
	t.Helper()
	stop := func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}
	stop() // what the test has started before: a hub outlives a reload
	t.Cleanup(stop)
	address, admin := freeAddress(t), ""
	if c.admin {
		admin = freeAddress(t)
	}
	if err := reloadJSON(t, c.caddyJSON(t, address, admin)); err != nil {
		t.Fatal(err)
	}
	return newTestSite(t, address, admin, theHub(t, defaultBroker))
}

// caddyJSON is the configuration of a Caddy. What it does not handle is answered
// with 418.
func (c *siteConfig) caddyJSON(t testing.TB, address, admin string) []byte {
	t.Helper()
	type object = map[string]any
	site := object{
		"listen":          []string{address},
		"protocols":       []string{"h1", "h2"}, // with h1 alone Caddy wraps each connection
		"automatic_https": object{"disable": true},
		"trusted_proxies": object{"source": "static", "ranges": []string{"127.0.0.1/32"}},
		"routes": []object{
			{
				"match":    []object{{"path": []string{plainPath}}},
				"handle":   []object{{"handler": "static_response", "body": "{}"}},
				"terminal": true,
			},
			{"handle": append(c.front,
				caddyconfig.JSONModuleObject(c.handler, "handler", "evstream", nil),
				object{"handler": "static_response", "status_code": http.StatusTeapot},
			)},
		},
	}
	if c.http2 {
		site["protocols"] = []string{"h1", "h2c"}
	}
	if c.timeout > 0 {
		timeout := caddy.Duration(c.timeout)
		maps.Copy(site, object{
			"read_timeout": timeout, "read_idle_timeout": timeout, "read_min_rate": 1_000_000,
			"write_timeout": timeout, "write_idle_timeout": timeout, "write_min_rate": 1_000_000,
		})
	}
	if c.bodyIdle > 0 {
		site["read_idle_timeout"] = caddy.Duration(c.bodyIdle)
	}
	config, err := json.Marshal(object{
		"admin":   object{"disabled": admin == "", "listen": admin, "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"writer": object{"output": "discard"}}}},
		"apps": object{
			"evstream": object{"brokers": object{defaultBroker: c.broker}},
			"http":     object{"grace_period": "30s", "servers": object{"site": site}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// serveNetHTTP serves a site with net/http. As a program behind a proxy would, it
// takes the client's address from X-Forwarded-For.
func serveNetHTTP(t testing.TB, c *siteConfig) *testSite {
	t.Helper()
	h, handler := newTestHandler(t, c)
	everything, err := httpapi.New(h, httpapi.Config{Mount: adminMount, Access: access.AllowAll(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if client := r.Header.Get("X-Forwarded-For"); client != "" {
			r.RemoteAddr = client + ":1"
		}
		switch {
		case r.URL.Path == plainPath:
			_, _ = io.WriteString(w, "{}")
		case c.admin && strings.HasPrefix(r.URL.Path, adminMount):
			everything.ServeHTTP(w, r)
		default:
			handler.ServeHTTP(w, r)
		}
	}))
	if c.http2 {
		listening.Config.Protocols = new(http.Protocols)
		listening.Config.Protocols.SetHTTP1(true)
		listening.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	listening.Config.ConnContext = stream.ConnContext
	listening.Config.ReadTimeout, listening.Config.WriteTimeout = c.timeout, c.timeout
	listening.Start()
	t.Cleanup(func() {
		if err := h.Close(); err != nil { // ends the streams, for which the server waits
			t.Error(err)
		}
		listening.Close()
	})
	address := listening.Listener.Addr().String()
	return newTestSite(t, address, address, h)
}

// newTestHandler is the handler of a site, with a hub of its own that is closed
// when the test ends.
func newTestHandler(t testing.TB, c *siteConfig) (*hub.Hub, *httpapi.Handler) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	settings, err := c.broker.settings()
	must(err)
	settings.hub.Logger = slog.New(slog.DiscardHandler)
	settings.hub.Rules, err = c.broker.publishRules()
	must(err)
	h, err := hub.Open(broker.NewMemory(), settings.hub)
	must(err)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})

	who := c.handler.authConfig()
	if c.handler.CaddyAuth {
		who.Outer = c.outer
	}
	must(resolve(who))
	streams, err := c.handler.settings()
	must(err)
	rules := make([]access.Rule, len(c.handler.Allow))
	for i := range rules {
		rules[i] = c.handler.Allow[i].rule()
		rules[i].Match = c.matchers[rules[i].Who]
	}
	policy, err := who.Policy(rules)
	must(err)
	callers, err := auth.Open(who, auth.Deps{
		Revocations: h, TicketStore: h, Scope: []string{defaultBroker, c.handler.Mount},
		ClientIP: clientIP, ReadEvent: httpapi.ReadEvent, Logger: slog.New(slog.DiscardHandler),
	})
	must(err)
	t.Cleanup(callers.Close)
	must(httpapi.CheckAmbient(c.handler.CORS, who))
	handler, err := httpapi.New(h, httpapi.Config{
		Mount: c.handler.Mount, Access: policy, Auth: callers, CORS: c.handler.CORS, IgnoreQuery: c.handler.IgnoreQuery, Streams: streams,
		MaxBody: c.handler.MaxBody.or(httpapi.DefaultMaxBody), RefuseOverload: c.handler.OnOverload == "503",
		Host: c.host, Logger: slog.New(slog.DiscardHandler),
	})
	must(err)
	return h, handler
}
