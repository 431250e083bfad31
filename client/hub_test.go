package client

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/presence"
)

const (
	backend = "backend-secret"
	alice   = "alice-secret"
	jwtKey  = "a secret of at least 32 bytes, for tests"
)

// realHub is a hub over net/http. The bearer backend may do everything, anyone may read
// and publish beneath public.
type realHub struct {
	*hub.Hub
	url    string
	server *httptest.Server
}

func startHub(t testing.TB, configure ...func(*broker.Config)) *realHub {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	config := broker.DefaultConfig()
	for _, change := range configure {
		change(&config)
	}
	there, err := presence.NewRules([]presence.Rule{{Pattern: "chat/**", Policy: &presence.Policy{}}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.Open(broker.NewMemory(), hub.Config{Presence: there, Broker: config, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	who := &auth.Config{JWT: &auth.JWT{Keys: []auth.Key{{Text: jwtKey}}}, Bearers: map[string]string{"backend": backend, "alice": alice}, Tickets: &auth.Tickets{}}
	policy, err := who.Policy([]access.Rule{
		{Who: "user", Do: []string{access.Subscribe, access.Presence}, Channels: []string{"chat/**"}},
		{Who: "backend", Do: []string{access.Everything}, Channels: []string{"**"}},
		{Who: "alice", Do: []string{access.Subscribe}, Channels: []string{"users/alice"}},
		{Who: access.Anyone, Do: []string{access.Subscribe, access.Publish}, Channels: []string{"public/**"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.Open(who, auth.Deps{Revocations: h, TicketStore: h, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := httpapi.New(h, httpapi.Config{
		Mount: "/live", Access: policy, Auth: a, Logger: quiet,
		Streams: httpapi.Streams{RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/live/", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		a.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return &realHub{h, server.URL + "/live", server}
}

// client is a client of the hub, with a bearer's secret or "" for none.
func (h *realHub) client(t testing.TB, token string) *Client {
	t.Helper()
	o := Options{MinBackoff: time.Millisecond}
	if token != "" {
		o.Credential = Token(token)
	}
	return newClient(t, h.url, o)
}

func newClient(t testing.TB, url string, o Options) *Client {
	t.Helper()
	c, err := New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within bounds what a test waits for.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// next is the next event, which must be one.
func next(t testing.TB, s *Subscription) Event {
	t.Helper()
	e, err := s.Next()
	if err != nil {
		t.Fatalf("no event: %v", err)
	}
	return e
}

// opened subscribes, and waits until the stream has begun. Notices come, too.
func opened(t testing.TB, c *Client, o SubscribeOptions) *Subscription {
	t.Helper()
	o.Notices = true
	s := c.Subscribe(within(t), o)
	t.Cleanup(s.Close)
	if e := next(t, s); e.Kind != KindOpen {
		t.Fatalf("the first event is %+v", e)
	}
	return s
}

func publish(t testing.TB, c *Client, p Publication) Published {
	t.Helper()
	done, err := c.Publish(within(t), p)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// userToken is a token of a user.
func userToken(t testing.TB, user string) string {
	t.Helper()
	token, err := auth.Sign(jwtKey, "", map[string]any{"sub": user, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return token
}
