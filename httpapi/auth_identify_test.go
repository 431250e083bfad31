package httpapi

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// identifying is a handler that identifies callers with a hub of its own, and
// lets anyone read what is public.
func identifying(t *testing.T, c *auth.Config) *Handler {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.Open(broker.NewMemory(), hub.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := auth.Open(c, auth.Deps{
		Revocations: h, TicketStore: h, Scope: []string{"test", "/live"},
		ReadEvent: ReadEvent, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	rules := []access.Rule{
		{Who: access.Anyone, Do: []string{access.Subscribe}, Channels: []string{"public/**", "match.*"}},
	}
	policy, err := access.NewPolicy(rules, c.BearerNames(), c.Any())
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(h, Config{Mount: "/live", Access: policy, Auth: a, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// deniedWith fails the test unless err is an answer of that status.
func deniedWith(t *testing.T, err error, status int) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if got := problem.Of(err).Status(); got != status {
		t.Fatalf("got %d (%v), want %d", got, err, status)
	}
}

func TestTheAdminEndpointAllowsAll(t *testing.T) {
	h, err := hub.Open(broker.NewMemory(), hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	e, err := New(h, Config{Access: access.AllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	who, err := e.identify(httptest.NewRequest("GET", "/", nil))
	if err != nil || !who.Admin || !e.access.Decide(who, access.Publish, "x/").Allowed {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestAnUnknownCallerIsChallenged(t *testing.T) {
	e := identifying(t, &auth.Config{
		Bearers: map[string]string{"backend": "backend's secret", "guest": "guest's secret"},
		JWT:     &auth.JWT{Keys: []auth.Key{{Text: authtest.Secret}}},
	})
	for header, want := range map[string]string{
		"Accept: */*":                     "Bearer",
		"Authorization: Bearer nonsense":  `Bearer error="invalid_token"`,
		"Authorization: Bearer a.b.c":     `Bearer error="invalid_token"`,
		"Authorization: Basic bm9uc2Vuc2": "Bearer",
	} {
		r := httptest.NewRequest("GET", "http://hub.example/live/secret", nil)
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
		w := httptest.NewRecorder()
		if ours, err := e.Serve(w, r); err != nil || !ours {
			t.Fatal(ours, err)
		}
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != want {
			t.Errorf("%s: got %d %q", header, w.Code, w.Header().Get("WWW-Authenticate"))
		}
	}
}

func TestAnApplicationsEventIsReadAsOneThatIsPublished(t *testing.T) {
	for _, tt := range []struct {
		name, event, want string // the type and the data, "" for 503
	}{
		{"an event", `{"event":"hello","data":{"a": 1}}`, `hello {"a":1}`},
		{"a text", `{"data":"Hello, Alice"}`, " Hello, Alice"},
		{"an event of the hub's", `{"event":"evstream.open"}`, ""},
		{"an event that leaves its line", `{"event":"a\nid: 1"}`, ""},
		{"an event with an id", `{"id":"1-1"}`, ""},
		{"an event that is no object", `"hello"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := authtest.StartApplication(t, authtest.Says(200, `{"user":"alice","event":`+tt.event+`}`))
			e := identifying(t, &auth.Config{Verify: &auth.Verify{URL: app.URL}})
			who, err := e.identify(httptest.NewRequest("GET", "/live/a", nil))
			if tt.want == "" {
				deniedWith(t, err, http.StatusServiceUnavailable)
				return
			}
			if err != nil || who.User != "alice" {
				t.Fatalf("got %+v, %v", who, err)
			}
			if got := who.Event.Type + " " + string(who.Event.Data); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestATicketIsForOneConnectAndItsReconnects(t *testing.T) {
	const lifetime = time.Minute // the default
	synctest.Test(t, func(t *testing.T) {
		e := identifying(t, &auth.Config{JWT: &auth.JWT{Keys: []auth.Key{{Text: authtest.Secret}}}, Tickets: new(auth.Tickets)})
		request := func(method, query string) *http.Request {
			return httptest.NewRequest(method, "https://hub.example/live/a?"+query, nil)
		}
		token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": time.Now().Add(2 * time.Hour).Unix()}))
		post := request("POST", "")
		post.Header.Set("Authorization", "Bearer "+token)
		who, err := e.identify(post)
		if err != nil {
			t.Fatal(err)
		}
		ticket := func() string {
			sealed, _, err := e.auth.NewTicket(who, post, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return sealed
		}
		used, unused := ticket(), ticket()
		connect := func(ticket string) error {
			who, err := e.identifyFor(request("GET", "ticket="+ticket), newStream)
			if err != nil {
				return err
			}
			s, err := e.hub.NewStream(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
			if err != nil {
				return err
			}
			defer s.Close(stream.ReasonClient)
			session := &hub.Session{Stream: s, Address: "127.0.0.1"}
			defer e.hub.Remove(session)
			return e.hub.Add(session, hub.Standing{Caller: who})
		}
		// Of a stream that nobody knows, a reload does not make a used one.
		_, err = e.identifyFor(auth.Again(request("GET", "ticket="+used), new(access.Caller)), newStream)
		deniedWith(t, err, http.StatusUnauthorized)

		time.Sleep(lifetime - time.Second)
		if err := connect(used); err != nil {
			t.Errorf("the first connect: %v", err)
		}
		time.Sleep(time.Second)
		deniedWith(t, connect(unused), http.StatusUnauthorized)
		for range 3 {
			time.Sleep(30 * time.Minute)
			if err := connect(used); err != nil {
				t.Errorf("a reconnect: %v", err)
			}
		}
		time.Sleep(29 * time.Minute)
		deniedWith(t, connect(used), http.StatusUnauthorized)
		if err := connect(used); !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v", err)
		}
	})
}
