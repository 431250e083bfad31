package evstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// Attacks on the tables that all callers share: see docs/caddyfile.md, "Shares". The
// attackers go on and on while somebody honest, at another address, publishes,
// subscribes, sets values and uses idempotency keys, and is served.

const (
	honestAddress = "192.0.2.1"
	honestRounds  = 8
	honestEvents  = 100
)

// caller makes requests from one address, and keeps the streams that it opens.
type caller struct {
	e       *testSite
	ctx     context.Context
	address string
	client  *http.Client

	mu      sync.Mutex
	streams []io.Closer
}

func newCaller(t testing.TB, e *testSite, address string) *caller {
	ctx, cancel := context.WithCancel(t.Context())
	transport := newTransport("HTTP/1.1")
	c := &caller{e: e, ctx: ctx, address: address, client: &http.Client{Transport: transport}}
	t.Cleanup(func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.streams {
			_ = s.Close()
		}
		transport.CloseIdleConnections()
	})
	return c
}

// do returns the status and the body of an answer; 0 if there is none.
func (c *caller) do(method, path, body string, header ...string) (int, string) {
	resp, err := c.send(method, path, body, header...)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	got, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(got)
}

func (c *caller) send(method, path, body string, header ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(c.ctx, method, c.e.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Forwarded-For", c.address)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return c.client.Do(r)
}

// hold opens a stream and keeps it. It is false if that is refused, which here is an
// error status.
func (c *caller) hold(names ...string) bool {
	resp, err := c.send(http.MethodGet, "/live?channel="+strings.Join(names, "&channel="), "", "Accept: text/event-stream")
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return false
	}
	c.streams = append(c.streams, resp.Body)
	return true
}

// numbered are n names made of a format, from a number on.
func numbered(format string, from, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf(format, from+i))
	}
	return names
}

// live is one round of the honest caller, in which it uses everything.
func (c *caller) live(t *testing.T, round int) {
	t.Helper()
	want := func(method, path, body string, status int, header ...string) string {
		t.Helper()
		got, text := c.do(method, path, body, header...)
		if got != status {
			t.Errorf("round %d: %s %s: %d %s, want %d", round, method, path, got, text, status)
		}
		return text
	}
	name := fmt.Sprintf("/live/honest/%d", round)
	data := fmt.Sprint("hello ", round)
	want("POST", name, data, 200, fmt.Sprint("Idempotency-Key: k", round))
	want("POST", name, data, 200, fmt.Sprint("Idempotency-Key: k", round)) // again: once
	want("POST", "/live/honest/same", data, 200)
	want("PUT", name, fmt.Sprint(round), 201)
	if got := want("GET", name, "", 200, "Accept: application/json"); got != fmt.Sprint(round)+"\n" {
		t.Errorf("round %d: the value is %q", round, got)
	}
	for _, names := range []string{"honest/same", fmt.Sprintf("honest/new/%d", round), "honest/**", "hon*/same", "h*/sam*"} {
		if got := want("GET", "/live?since=earliest&poll=1&channel="+names, "", 200); strings.Contains(names, "same") &&
			(strings.Count(got, "hello") != round+1 || strings.Contains(got, `"gap"`)) {
			t.Errorf("round %d: of %d events of %s came %s", round, round+1, names, got)
		}
	}
	s := openStream(t, c.e, name+"?since=earliest", "X-Forwarded-For: "+c.address)
	defer s.cancel()
	for !strings.Contains(s.next(), data) { // the opening and the value come, too
	}
}

func TestWhoFillsTablesFillsItsShareOnly(t *testing.T) {
	attack := func(address string, step func(c *caller, n int)) func(*testing.T, *testSite) {
		return func(t *testing.T, e *testSite) {
			c := newCaller(t, e, address)
			for n := range 60 { // first it fills what it can
				step(c, n)
			}
			var over sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			t.Cleanup(func() { stop(); over.Wait() })
			over.Go(func() {
				for n := 60; ctx.Err() == nil; n++ {
					step(c, n)
				}
			})
		}
	}
	lines := strings.Repeat("x\n", 150_000)
	for _, tt := range []struct {
		name    string
		attacks []func(*testing.T, *testSite)
	}{
		{"wildcard patterns", []func(*testing.T, *testSite){
			attack("198.51.100.1", func(c *caller, n int) { c.hold(numbered("*a%d/x", 10*n, 10)...) }),
		}},
		{"channels", []func(*testing.T, *testSite){
			attack("198.51.100.1", func(c *caller, n int) {
				for _, name := range numbered("greedy/%d", 10*n, 10) {
					c.do("POST", "/live/"+name, strings.Repeat("x", 2000))
				}
			}),
		}},
		{"values", []func(*testing.T, *testSite){
			attack("198.51.100.1", func(c *caller, n int) {
				for _, name := range numbered("greedy/%d", 10*n, 10) {
					c.do("PUT", "/live/"+name, `"`+strings.Repeat("x", 1000*(n%2))+`"`)
				}
			}),
		}},
		{"names that are only read", []func(*testing.T, *testSite){
			attack("198.51.100.1", func(c *caller, n int) { c.hold(numbered("g1/%d", 30*n, 30)...) }),
			attack("198.51.100.2", func(c *caller, n int) { c.hold(numbered("g2/%d", 7*n, 7)...) }),
			attack("198.51.100.3", func(c *caller, n int) { c.hold(numbered("g3/%d/**", 10*n, 10)...) }),
			attack("2001:db8::1", func(c *caller, n int) {
				c.address = fmt.Sprintf("2001:db8::%x", n+1) // of one network
				c.hold(numbered("g4/%d", 3*n, 3)...)
			}),
			attack("198.51.100.5", func(c *caller, n int) { c.hold(fmt.Sprintf("g5/%d", n)) }),
		}},
		{"memory", []func(*testing.T, *testSite){
			attack("198.51.100.1", func(c *caller, n int) {
				for _, name := range numbered("greedy/%d", 10*n%390, 10) {
					c.do("POST", "/live/"+name, strings.Repeat("x", 12_000))
				}
			}),
		}},
		{"idempotency keys", []func(*testing.T, *testSite){func(t *testing.T, e *testSite) {
			c := newCaller(t, e, "198.51.100.1")
			status, body := c.do("POST", "/live/greedy", lines, "Content-Type: application/x-ndjson", "Idempotency-Key: k")
			if status != 429 || !strings.Contains(body, "share") {
				t.Errorf("150,000 keys: %d %s", status, body)
			}
			if status, body := c.do("POST", "/live/greedy", "x", "Idempotency-Key: other"); status != 429 || !strings.Contains(body, "share") {
				t.Errorf("one more key: %d %s", status, body)
			}
			if status, body := c.do("POST", "/live/greedy", "x\n", "Content-Type: application/x-ndjson", "Idempotency-Key: k"); status != 200 {
				t.Errorf("a key that is remembered: %d %s", status, body)
			}
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serveCaddy(t, newSiteConfig(withRules("anyone subscribe,publish,state **"), func(c *siteConfig) {
				c.handler.OnOverload = "503"
				c.broker = &BrokerConfig{
					MaxChannels: 400, MaxPatterns: 40, MaxStates: 400, MaxStateBytes: 100_000, MaxHistory: 4 << 20,
					ConnectRate: Rate{Unlimited: true},
				}
			}))
			honest := newCaller(t, e, honestAddress)
			honest.live(t, 0)
			for range honestEvents {
				honest.do("POST", "/live/honest/large", strings.Repeat("x", 2000))
			}
			for _, begin := range tt.attacks {
				begin(t, e)
			}
			for round := 1; round <= honestRounds && !t.Failed(); round++ {
				honest.live(t, round)
			}
			if got := kept(t, e, "honest/large"); len(got) != honestEvents {
				t.Errorf("of a large honest history %d events are kept of %d", len(got), honestEvents)
			}
			for round := range honestRounds {
				if got := kept(t, e, fmt.Sprintf("honest/%d", round)); len(got) != 2 { // and the value
					t.Errorf("of an honest channel this is kept: %q", got)
				}
			}
		})
	}
}

// The recipe of the documents gives each user a pattern.
func TestAThousandUsersMayReadTheirOwnPattern(t *testing.T) {
	e := serveCaddy(t, newSiteConfig(withRules("anyone subscribe **"), func(c *siteConfig) {
		c.broker = &BrokerConfig{MaxPatterns: 10}
	}))
	var subs []*broker.Subscription
	for i := range 1500 {
		sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{
			Channels: []string{fmt.Sprintf("users/%d/**", i)}, Owner: broker.Owner(i + 1),
		})
		if err != nil {
			t.Fatalf("user %d: %v", i, err)
		}
		subs = append(subs, sub)
	}
	s := openStream(t, e, "/live?channel=users/me/**", "X-Forwarded-For: 192.0.2.7")
	for !strings.Contains(s.next(), "event: evstream.open\n") {
	}
	for _, sub := range subs {
		sub.Close()
	}
}

// What is refused has dropped nothing.
func TestARefusedSubscriptionDropsNoHistory(t *testing.T) {
	e := serveCaddy(t, newSiteConfig(withRules("anyone subscribe,publish **"), func(c *siteConfig) {
		c.handler.OnOverload = "503"
		c.broker = &BrokerConfig{MaxChannels: 50}
	}))
	c := newCaller(t, e, "198.51.100.1")
	for _, name := range numbered("old/%d", 0, 50) {
		mustPost(t, e, "/live/"+name, "kept")
	}
	for _, names := range [][]string{numbered("new/%d", 0, 90), append(numbered("new/%d", 0, 99), "bad//name"), append(numbered("new/%d", 0, 5), "_hub")} {
		if c.hold(names...) {
			t.Errorf("%d names are read, at most a share is allowed", len(names))
		}
	}
	for _, name := range numbered("old/%d", 0, 50) {
		if got := kept(t, e, name); len(got) != 1 {
			t.Errorf("%s keeps %q", name, got)
		}
	}
}
