package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// hubTokens accepts tokens of authtest.
func hubTokens() auth.Config {
	return auth.Config{JWT: &auth.JWT{Keys: []auth.Key{{Text: authtest.Secret}}}}
}

func TestAUserOverTheLimitIsTurnedAwayAndOthersAreNot(t *testing.T) {
	e := hubHandler(t, hubSetup{hub: hub.Config{MaxPerUser: 1}, auth: hubTokens()})
	server := hubServer(t, e)
	as := func(user string) string {
		return "Authorization: Bearer " + authtest.Sign(t, "HS256", authtest.Alice(map[string]any{"sub": user}))
	}
	cancel := hubStream(t, server, "/live/a", as("alice"))
	poll := func(user string) *http.Response { return hubPoll(t, e, "a", as(user)) }
	resp := poll("alice")
	hubProblem(t, resp, 429, "too-many-user-connections")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("without Retry-After")
	}
	hubTurnedAway(t, hubAnswer(t, e, "GET", "/live/a", "", as("alice")))
	if resp := poll("bob"); resp.StatusCode != 200 {
		t.Errorf("another user: %d %s", resp.StatusCode, hubBody(t, resp))
	}
	cancel()
	hubEventually(t, "the stream to end", func() bool { return len(e.hub.Sessions()) == 0 })
	if resp := poll("alice"); resp.StatusCode != 200 {
		t.Errorf("after it has ended: %d %s", resp.StatusCode, hubBody(t, resp))
	}
	if n := e.hub.Stats().Refusals["max_connections_per_user"]; n != 2 {
		t.Errorf("%d were counted, want 2", n)
	}
}

func TestAnAddressMayBeginSoManyStreamsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := hubHandler(t, hubSetup{
			hub: hub.Config{ConnectRate: hub.Rate{PerSecond: 1, Burst: 3}},
			rules: []access.Rule{
				{Who: access.Anyone, Do: []string{access.Subscribe}, Channels: []string{"match.*"}},
			},
		})
		for i := range 3 {
			if resp := hubPoll(t, e, "match.7"); resp.StatusCode != 200 {
				t.Fatalf("poll %d: %d", i, resp.StatusCode)
			}
		}
		resp := hubPoll(t, e, "match.7")
		hubProblem(t, resp, 429, "connect-rate")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("a poll is not told when to come back")
		}
		// A stream is told in the way that an EventSource survives, before who
		// asks, or whether they may, is looked at.
		hubTurnedAway(t, hubAnswer(t, e, "GET", "/live/secret", "", "Authorization: Bearer wrong"))
		if n := e.hub.Stats().Refusals["connect_rate"]; n != 2 {
			t.Errorf("%d were counted, want 2", n)
		}
		time.Sleep(time.Second)
		if resp := hubPoll(t, e, "match.7"); resp.StatusCode != 200 {
			t.Errorf("a second later: %d", resp.StatusCode)
		}
		for range 10 {
			local := hubRequest("GET", "/live/match.7?poll=1", "", "Accept: application/json")
			local.RemoteAddr = "127.0.0.1:5"
			if resp := hubAsk(t, e, local); resp.StatusCode != 200 {
				t.Fatalf("this host: %d %s", resp.StatusCode, hubBody(t, resp))
			}
		}
	})
}

func TestPublishersAreHeldToTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := hubHandler(t, hubSetup{hub: hub.Config{PublishRate: hub.Rate{PerSecond: 1, Burst: 5}}})
		const ndjson = "Content-Type: application/x-ndjson"
		one := func() *http.Response { return hubAnswer(t, e, "POST", "/live/a", "x") }
		for range 2 {
			hubMustPost(t, e, "/live/a", "x") // the backend, whose rate is its own
		}
		for i := range 5 {
			if resp := one(); resp.StatusCode != 200 {
				t.Fatalf("event %d: %d", i, resp.StatusCode)
			}
		}
		resp := one()
		hubProblem(t, resp, 429, "publish-rate")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("without Retry-After")
		}
		for _, r := range []*http.Request{
			hubRequest("POST", "/live/_publish", `{"channel":"a"}`),
			hubRequest("POST", "/live/a/", "x"),
			hubRequest("DELETE", "/live/a?history", ""),
			hubRequest("POST", "/live/a", "1\n", ndjson),
		} {
			hubProblem(t, hubAsk(t, e, r), 429, "publish-rate")
		}
		hubMustPost(t, e, "/live/a", "x")
		if n := e.hub.Stats().PublishRefusals["publish_rate"]; n != 5 {
			t.Errorf("%d were counted, want 5", n)
		}
		time.Sleep(5 * time.Second)
		// Of a body that is published as it arrives, what was within the rate
		// stays published, and the client is told how far it came.
		doc := hubProblem(t, hubAnswer(t, e, "POST", "/live/a", strings.Repeat("1\n", 9), ndjson), 429, "publish-rate")
		if doc.Published == nil || *doc.Published != 5 || doc.Line != 6 {
			t.Errorf("%+v", doc)
		}
		time.Sleep(5 * time.Second)
		// A batch that is more than a burst passes as a whole, and is paid for.
		batch := `[` + strings.Repeat(`{"channel":"a"},`, 9) + `{"channel":"a"}]`
		if resp := hubAnswer(t, e, "POST", "/live/_publish", batch); resp.StatusCode != 200 {
			t.Errorf("a batch: %d %s", resp.StatusCode, hubBody(t, resp))
		}
		time.Sleep(5 * time.Second)
		hubProblem(t, one(), 429, "publish-rate")
	})
}

func TestPublishersAreHeldToTheirBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := hubHandler(t, hubSetup{hub: hub.Config{PublishBytes: hub.Rate{PerSecond: 10, Burst: 20}}})
		if resp := hubAnswer(t, e, "POST", "/live/a", strings.Repeat("x", 20)); resp.StatusCode != 200 {
			t.Fatalf("%d", resp.StatusCode)
		}
		hubProblem(t, hubAnswer(t, e, "POST", "/live/a", "x"), 429, "publish-bytes")
		if n := e.hub.Stats().PublishRefusals["publish_bytes"]; n != 1 {
			t.Errorf("%d were counted, want 1", n)
		}
		other := hubRequest("POST", "/live/a", "x")
		other.RemoteAddr = "198.51.100.7:1"
		by, err := e.author(other, access.AnonymousCaller())
		if err != nil {
			t.Errorf("another address: %v", err)
		}
		if _, err := e.append(t.Context(), by, []broker.Op{{Kind: broker.KindEvent, Channel: "a"}}); err != nil {
			t.Errorf("another address: %v", err)
		}
		if by, err := e.author(other, &access.Caller{Admin: true}); err != nil || by.publisher != "" {
			t.Errorf("the admin endpoint: %q, %v", by.publisher, err)
		}
	})
}

func TestAStreamMayReadSoManyPatterns(t *testing.T) {
	e := hubHandler(t, hubSetup{})
	path := "/live/?channel=match.7"
	for _, c := range "abcdefghij" {
		path += "&channel=public/" + string(c) + "*"
	}
	resp := hubAnswer(t, e, "GET", path+"&poll=1", "", "Accept: application/json")
	if resp.StatusCode != 200 {
		t.Errorf("ten: %d %s", resp.StatusCode, hubBody(t, resp))
	}
	doc := hubProblem(t, hubAnswer(t, e, "GET", path+"&channel=public/k*", ""), 400, "too-many-channels")
	if !strings.Contains(doc.Detail, "too many wildcard patterns for one subscription: at most 10 are allowed") {
		t.Error(doc.Detail)
	}
	if n := e.hub.Stats().Refusals["max_session_patterns"]; n != 1 {
		t.Errorf("%d were counted, want 1", n)
	}
}
