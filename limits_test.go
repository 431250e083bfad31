package evstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// withLimits changes the bounds of an endpoint's hub.
func withLimits(t *testing.T, c BrokerConfig) func(*endpoint) {
	t.Helper()
	s, err := c.settings()
	if err != nil {
		t.Fatal(err)
	}
	if s.channels, err = c.channelRules(); err != nil {
		t.Fatal(err)
	}
	return func(e *endpoint) {
		if err := e.hub.configure(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAUserMayHaveSoManyStreamsWhateverTheAddress(t *testing.T) {
	h := testHub(t, BrokerConfig{MaxConnectionsPerUser: 2})
	of := func(user, address string) *live {
		l := testLive(t, h, address)
		l.who = &caller{user: user}
		return l
	}
	first := of("alice", "192.0.2.1")
	for _, l := range []*live{first, of("alice", "127.0.0.1")} {
		if err := h.add(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.add(of("alice", "192.0.2.3")); !errors.Is(err, errTooManyOfUser) {
		t.Errorf("the third stream: %v", err)
	}
	if err := h.enter("192.0.2.3", "alice"); !errors.Is(err, errTooManyOfUser) {
		t.Errorf("a poll: %v", err)
	}
	for range 5 {
		if err := h.add(of("", "192.0.2.4")); err != nil {
			t.Errorf("nobody in particular: %v", err)
		}
	}
	if err := h.add(of("bob", "192.0.2.1")); err != nil {
		t.Errorf("another user: %v", err)
	}
	first.who.user = "carol" // as a reload may find out
	h.remove(first)
	if err := h.enter("192.0.2.3", "alice"); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	h.depart("192.0.2.3", "alice")
	for _, l := range h.list() {
		h.remove(l)
	}
	if len(h.users) != 0 || len(h.addresses) != 0 {
		t.Errorf("left are %v and %v", h.users, h.addresses)
	}
	if n := h.refusals["max_connections_per_user"]; n != 2 {
		t.Errorf("%d were refused, want 2", n)
	}
}

func TestAUserOverTheLimitIsTurnedAwayAndOthersAreNot(t *testing.T) {
	h := withKeys(jwtSecret)
	e := newTestEndpoint(t, withLimits(t, BrokerConfig{MaxConnectionsPerUser: 1}), func(e *endpoint) { e.access = accessOf(t, h) })
	server := startServer(t, e)
	as := func(user string) string {
		return "Authorization: Bearer " + sign(t, "HS256", aliceClaims(map[string]any{"sub": user}))
	}
	first := openStream(t, server, "/live/a", as("alice"))
	first.opened()
	poll := func(user string) *http.Response {
		return ask(t, e, request{"GET", "/live/a?poll=1", []string{as(user), "Accept: application/json"}, ""})
	}
	resp := poll("alice")
	wantProblem(t, resp, 429, "too-many-user-connections")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("without Retry-After")
	}
	over := ask(t, e, request{"GET", "/live/a", []string{as("alice")}, ""})
	if body := bodyOfStream(t, over); over.StatusCode != 200 || !strings.Contains(body, "retry: ") {
		t.Errorf("a stream: %d %s", over.StatusCode, body)
	}
	if resp := poll("bob"); resp.StatusCode != 200 {
		t.Errorf("another user: %d %s", resp.StatusCode, bodyOf(t, resp))
	}
	first.cancel()
	eventually(t, "the stream to end", func() bool { return len(e.hub.list()) == 0 })
	if resp := poll("alice"); resp.StatusCode != 200 {
		t.Errorf("after it has ended: %d %s", resp.StatusCode, bodyOf(t, resp))
	}
	e.hub.mu.Lock()
	defer e.hub.mu.Unlock()
	if n := e.hub.refusals["max_connections_per_user"]; n != 2 {
		t.Errorf("%d were counted, want 2", n)
	}
}

// Whoever has one address of an IPv6 network has 2^64.
func TestANetworkOfIPv6IsOneAddress(t *testing.T) {
	h := testHub(t, BrokerConfig{MaxConnectionsPerIP: 2})
	for i, address := range []string{"2001:db8::1", "2001:db8::ffff:1"} {
		if err := h.add(testLive(t, h, address)); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if err := h.add(testLive(t, h, "2001:db8:0:0:1234::")); !errors.Is(err, errTooManyFromAddress) {
		t.Errorf("the same network: %v", err)
	}
	if err := h.add(testLive(t, h, "2001:db8:0:1::1")); err != nil {
		t.Errorf("another network: %v", err)
	}
}

func TestAnAddressMayBeginSoManyStreamsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEndpoint(t, withLimits(t, BrokerConfig{ConnectRate: Rate{PerSecond: 1, Burst: 3}}))
		poll := request{"GET", "/live/match.7?poll=1", []string{"Accept: application/json"}, ""}
		for i := range 3 {
			if resp := ask(t, e, poll); resp.StatusCode != 200 {
				t.Fatalf("poll %d: %d", i, resp.StatusCode)
			}
		}
		resp := ask(t, e, poll)
		wantProblem(t, resp, 429, "connect-rate")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("a poll is not told when to come back")
		}
		// A stream is told in the way that an EventSource survives, before who
		// asks, or whether they may, is looked at.
		stream := ask(t, e, request{"GET", "/live/secret", []string{"Authorization: Bearer wrong"}, ""})
		if body := bodyOfStream(t, stream); stream.StatusCode != 200 || !strings.Contains(body, "retry: ") {
			t.Errorf("a stream: %d %s", stream.StatusCode, body)
		}
		if n := e.hub.refusals["connect_rate"]; n != 2 {
			t.Errorf("%d were counted, want 2", n)
		}
		time.Sleep(time.Second)
		if resp := ask(t, e, poll); resp.StatusCode != 200 {
			t.Errorf("a second later: %d", resp.StatusCode)
		}
		local := poll.build()
		local.RemoteAddr = "127.0.0.1:5"
		for range 10 {
			if err := e.hub.limits.mayConnect(local); err != nil {
				t.Fatalf("this host: %v", err)
			}
		}
	})
}

// bodyOfStream reads an answer that is no document.
func bodyOfStream(t *testing.T, resp *http.Response) string {
	t.Helper()
	var b strings.Builder
	if _, err := io.Copy(&b, resp.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPublishersAreHeldToTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEndpoint(t, anyoneMay(t), withLimits(t, BrokerConfig{PublishRate: Rate{PerSecond: 1, Burst: 5}}))
		one := request{"POST", "/live/a", nil, "x"}
		for range 2 {
			mustPost(t, e, "/live/a", "x") // the backend, whose rate is its own
		}
		for i := range 5 {
			if resp := ask(t, e, one); resp.StatusCode != 200 {
				t.Fatalf("event %d: %d", i, resp.StatusCode)
			}
		}
		resp := ask(t, e, one)
		wantProblem(t, resp, 429, "publish-rate")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("without Retry-After")
		}
		for _, q := range []request{
			{"POST", "/live/_publish", nil, `{"channel":"a"}`},
			{"POST", "/live/a/", nil, "x"},
			{"DELETE", "/live/a?history", nil, ""},
			{"POST", "/live/a", []string{"Content-Type: application/x-ndjson"}, "1\n"},
		} {
			wantProblem(t, ask(t, e, q), 429, "publish-rate")
		}
		mustPost(t, e, "/live/a", "x")
		if n := e.hub.publishRefusals["publish_rate"]; n != 5 {
			t.Errorf("%d were counted, want 5", n)
		}
		time.Sleep(5 * time.Second)
		// Of a body that is published as it arrives, what was within the rate
		// stays published, and the client is told how far it came.
		doc := wantProblem(t, ask(t, e, request{"POST", "/live/a", []string{"Content-Type: application/x-ndjson"}, strings.Repeat("1\n", 9)}), 429, "publish-rate")
		if doc.Published == nil || *doc.Published != 5 || doc.Line != 6 {
			t.Errorf("%+v", doc)
		}
		time.Sleep(5 * time.Second)
		// A batch that is more than a burst passes as a whole, and is paid for.
		batch := request{"POST", "/live/_publish", nil, `[` + strings.Repeat(`{"channel":"a"},`, 9) + `{"channel":"a"}]`}
		if resp := ask(t, e, batch); resp.StatusCode != 200 {
			t.Errorf("a batch: %d %s", resp.StatusCode, bodyOf(t, resp))
		}
		time.Sleep(5 * time.Second)
		wantProblem(t, ask(t, e, one), 429, "publish-rate")
	})
}

func TestPublishersAreHeldToTheirBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEndpoint(t, anyoneMay(t), withLimits(t, BrokerConfig{PublishBytes: Rate{PerSecond: 10, Burst: 20}}))
		if resp := ask(t, e, request{"POST", "/live/a", nil, strings.Repeat("x", 20)}); resp.StatusCode != 200 {
			t.Fatalf("%d", resp.StatusCode)
		}
		wantProblem(t, ask(t, e, request{"POST", "/live/a", nil, "x"}), 429, "publish-bytes")
		if n := e.hub.publishRefusals["publish_bytes"]; n != 1 {
			t.Errorf("%d were counted, want 1", n)
		}
		other := request{"POST", "/live/a", nil, "x"}.build()
		other.RemoteAddr = "198.51.100.7:1"
		by, err := e.author(other, caller{})
		if err != nil {
			t.Errorf("another address: %v", err)
		}
		if _, err := e.append(t.Context(), by, []broker.Op{{Kind: broker.KindEvent, Channel: "a"}}); err != nil {
			t.Errorf("another address: %v", err)
		}
		if by, err := e.author(other, caller{admin: true}); err != nil || by.meter != "" {
			t.Errorf("the admin endpoint: %q, %v", by.meter, err)
		}
	})
}

func TestAStreamMayReadSoManyPatterns(t *testing.T) {
	e := newTestEndpoint(t)
	path := "/live?channel=match.7"
	for _, c := range "abcdefghij" {
		path += "&channel=public/" + string(c) + "*"
	}
	resp := ask(t, e, request{"GET", path + "&poll=1", []string{"Accept: application/json"}, ""})
	if resp.StatusCode != 200 {
		t.Errorf("ten: %d %s", resp.StatusCode, bodyOf(t, resp))
	}
	doc := wantProblem(t, ask(t, e, request{"GET", path + "&channel=public/k*", nil, ""}), 400, "too-many-channels")
	if !strings.Contains(doc.Detail, "too many wildcard patterns for one subscription: at most 10 are allowed") {
		t.Error(doc.Detail)
	}
	if n := e.hub.refusals["max_session_patterns"]; n != 1 {
		t.Errorf("%d were counted, want 1", n)
	}
}
