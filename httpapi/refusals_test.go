package httpapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/stream"
)

// loadingLog is a log that its node never comes to the end of.
type loadingLog struct{ *broker.MemoryLog }

func (l loadingLog) Follow(ctx context.Context, f broker.Follower) error {
	f.Cut(nil)
	<-ctx.Done()
	return ctx.Err()
}

// replacedReload is a configuration that was replaced by one without the handler.
type replacedReload struct{}

func (replacedReload) Replaced() <-chan struct{} { return closedChan }

func (replacedReload) Successor(*Handler, any, *access.Caller, Judge) (*Handler, *access.Caller, error) {
	return nil, nil, ErrReplaced
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// hubBrokerBound is a hub whose broker has another bound.
func hubBrokerBound(change func(*broker.Config)) hub.Config {
	c := broker.DefaultConfig()
	change(&c)
	return hub.Config{Broker: c}
}

// interruptingHost is the Host of a plain server, which calls interrupt when a
// stream has been taken in and is about to begin.
type interruptingHost struct {
	netHost
	interrupt func()
}

func (h interruptingHost) LiftTimeouts(*http.Request, time.Duration, time.Duration) func() {
	h.interrupt()
	return func() {}
}

// A subscriber that is turned away is counted once, under its reason, whether it
// asked for a stream or polls.
func TestEachRefusalIsCountedOnceHoweverItIsRead(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer silent.Close()
	token := "Authorization: Bearer " + authtest.Sign(t, "HS256", authtest.Alice(nil))
	hold := func(channels ...string) func(*testing.T, *Handler) {
		return func(t *testing.T, e *Handler) {
			sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: channels})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(sub.Close)
		}
	}
	holdAs := func(address, user string) func(*testing.T, *Handler) {
		return func(t *testing.T, e *Handler) {
			if err := e.hub.AddPoll(address, user); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		reason string
		status int // of a poll; 503 and 429 of a stream are 200
		setup  hubSetup
		before func(*testing.T, *Handler)
		query  string // beside the channel "a"
		header []string
	}{
		{
			name: "all readers", reason: "max_connections", status: 503,
			setup: hubSetup{hub: hubBrokerBound(func(c *broker.Config) { c.MaxSubscriptions = 1 })}, before: hold("b"),
		},
		{
			name: "an address", reason: "max_connections_per_ip", status: 429,
			setup: hubSetup{hub: hub.Config{MaxPerAddress: 1}}, before: holdAs("192.0.2.1", ""),
		},
		{
			name: "a user", reason: "max_connections_per_user", status: 429,
			setup: hubSetup{hub: hub.Config{MaxPerUser: 1}, auth: hubTokens()}, before: holdAs("192.0.2.2", "alice"), header: []string{token},
		},
		{
			name: "a rate", reason: "connect_rate", status: 429,
			setup:  hubSetup{hub: hub.Config{ConnectRate: hub.Rate{PerSecond: 1e-6, Burst: 1}}},
			before: func(_ *testing.T, e *Handler) { _ = e.hub.MayConnect("192.0.2.1") },
		},
		{
			name: "patterns of one reader", reason: "max_session_patterns", status: 400,
			setup: hubSetup{hub: hubBrokerBound(func(c *broker.Config) { c.MaxSubscriptionPatterns = 1 })}, query: "&channel=b*&channel=c*",
		},
		{
			name: "channels of one reader", reason: "max_session_channels", status: 400,
			setup: hubSetup{hub: hubBrokerBound(func(c *broker.Config) { c.MaxSubscriptionChannels = 1 })}, query: "&channel=b",
		},
		{
			name: "readers of a channel", reason: "max_subscribers", status: 503,
			setup: hubSetup{hub: hubBrokerBound(func(c *broker.Config) { c.MaxSubscribers = 1 })}, before: hold("a"),
		},
		{
			name: "patterns", reason: "max_patterns", status: 503,
			setup: hubSetup{hub: hubBrokerBound(func(c *broker.Config) { c.MaxPatterns = 1 })}, before: hold("b*"), query: "&channel=c*",
		},
		{
			name: "channels", reason: "max_channels", status: 503,
			setup: hubSetup{hub: hubBrokerBound(func(c *broker.Config) { c.MaxChannels = 1 })}, before: hold("b"),
		},
		{name: "an exit", reason: "shutdown", status: 503, before: func(_ *testing.T, e *Handler) { e.hub.Drain(0) }},
		{name: "a reload", reason: "reload", status: 503, setup: hubSetup{http: Config{Reload: replacedReload{}}}},
		{
			name: "an application without an answer", reason: "identity", status: 503,
			setup: hubSetup{auth: auth.Config{Verify: &auth.Verify{URL: silent.URL}}},
		},
		{
			name: "keys that cannot be fetched", reason: "identity", status: 503,
			setup:  hubSetup{auth: auth.Config{JWT: &auth.JWT{JWKS: silent.URL, AllowPrivate: true}}},
			header: []string{"Authorization: Bearer " + authtest.Sign(t, "RS256", authtest.Alice(nil))},
		},
		{name: "a log that is loaded", reason: "log", status: 503, setup: hubSetup{log: loadingLog{broker.NewMemory()}}},
		{
			name: "revocations that are not known", reason: "log", status: 503,
			setup: hubSetup{log: loadingLog{broker.NewMemory()}, auth: hubTokens()}, header: []string{token},
		},
		{name: "a closed broker", reason: "other", status: 503, before: func(t *testing.T, e *Handler) {
			if err := e.hub.Close(); err != nil {
				t.Error(err)
			}
		}},

		// Who may not, or asks for what cannot be, is not turned away by a limit.
		{name: "no rule", status: 401, setup: hubSetup{rules: []access.Rule{{Who: "backend", Do: []string{"all"}, Channels: []string{"**"}}}}},
		{name: "a wrong credential", status: 401, setup: hubSetup{auth: hubTokens()}, header: []string{"Authorization: Bearer x"}},
		{name: "not a channel", status: 400, query: "&channel=b//c"},
		{name: "not a parameter", status: 400, query: "&last=x"},
	} {
		for _, way := range []struct {
			name, query, accept string
		}{{"stream", "", "text/event-stream"}, {"poll", "&poll=1", "application/json"}} {
			t.Run(tt.name+"/"+way.name, func(t *testing.T) {
				e := hubHandler(t, tt.setup)
				if tt.before != nil {
					tt.before(t, e)
				}
				resp := hubAnswer(t, e, "GET", "/live/a?_=1"+tt.query+way.query, "", append(tt.header, "Accept: "+way.accept)...)
				patience := tt.status == 503 || tt.status == 429
				if way.name == "stream" && patience {
					hubTurnedAway(t, resp)
				} else if resp.StatusCode != tt.status {
					t.Errorf("got %d %s, want %d", resp.StatusCode, hubBody(t, resp), tt.status)
				}
				want := map[string]uint64{}
				if tt.reason != "" {
					want[tt.reason] = 1
				}
				if got := e.hub.Stats().Refusals; !maps.Equal(got, want) {
					t.Errorf("counted are %v, want %v", got, want)
				}
				if n := len(e.hub.Sessions()); n != 0 {
					t.Errorf("%d streams are in", n)
				}
				if got := e.hub.Stats().Disconnects; len(got) != 0 {
					t.Errorf("disconnected are %v", got)
				}
			})
		}
	}
}

// A stream may be ended by an exit or a reload after it was taken in, and before
// anything is written.
func TestAStreamThatEndsBeforeItBeginsIsCountedOnce(t *testing.T) {
	for _, tt := range []struct {
		reason string
		end    func(*Handler)
	}{
		{"shutdown", func(e *Handler) {
			e.hub.Drain(time.Nanosecond) // at once
		}},
		{"reload", func(e *Handler) {
			for _, s := range e.hub.Sessions() {
				s.Stream.Close(stream.ReasonReload)
			}
		}},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			var e *Handler
			ended := 0
			e = hubHandler(t, hubSetup{http: Config{Host: interruptingHost{interrupt: func() {
				ended += len(e.hub.Sessions())
				tt.end(e)
			}}}})
			hubTurnedAway(t, hubAnswer(t, e, "GET", "/live/a", ""))
			if ended != 1 {
				t.Fatalf("%d streams were in when it was ended", ended)
			}
			if got, want := e.hub.Stats().Refusals, (map[string]uint64{tt.reason: 1}); !maps.Equal(got, want) {
				t.Errorf("counted are %v, want %v", got, want)
			}
			if got := e.hub.Stats().Disconnects; len(got) != 0 {
				t.Errorf("disconnected are %v", got)
			}
			if n := len(e.hub.Sessions()); n != 0 {
				t.Errorf("%d streams are in", n)
			}
		})
	}
}

// A poll that waits when the configuration is replaced is turned away, too.
func TestAPollThatAReloadEndsIsCountedOnce(t *testing.T) {
	reload := &laterReload{replaced: make(chan struct{})}
	e := hubHandler(t, hubSetup{http: Config{Reload: reload}})
	cursor := e.hub.Broker().Head().String()
	answers := make(chan *http.Response)
	go func() {
		answers <- hubAnswer(t, e, "GET", "/live/a?poll=1&timeout=30&last_event_id="+cursor, "", "Accept: application/json")
	}()
	hubEventually(t, "the poll to wait", func() bool {
		doc, ok := e.hub.Broker().Channel("a")
		return ok && doc.Subscribers == 1
	})
	close(reload.replaced)
	hubProblem(t, <-answers, 503, "unavailable")
	if got := e.hub.Stats().Refusals; !maps.Equal(got, map[string]uint64{"reload": 1}) {
		t.Errorf("counted are %v", got)
	}
}

// laterReload is a configuration that is replaced when the test says so. Its
// successors are tried in order, and the last again.
type laterReload struct {
	replaced chan struct{}

	mu         sync.Mutex
	successors []*Handler
}

func (l *laterReload) Replaced() <-chan struct{} { return l.replaced }

func (l *laterReload) Successor(_ *Handler, _ any, was *access.Caller, _ Judge) (*Handler, *access.Caller, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.successors) == 0 {
		return nil, nil, ErrReplaced
	}
	next := l.successors[0]
	if len(l.successors) > 1 {
		l.successors = l.successors[1:]
	}
	return next, was, nil
}

// The configuration that a stream is handed to may be replaced meanwhile, by one
// that has looked for its streams before this was among them.
func TestAStreamThatBeginsLateIsHandedOnToTheConfigurationOfNow(t *testing.T) {
	first, second := &laterReload{replaced: closedChan}, &laterReload{replaced: closedChan}
	e := hubHandler(t, hubSetup{http: Config{Reload: first}})
	next := hubHandlerOf(t, e.hub, hubSetup{http: Config{Reload: second}})
	last := hubHandlerOf(t, e.hub, hubSetup{})
	first.successors, second.successors = []*Handler{next}, []*Handler{last}
	hubStream(t, hubServer(t, e), "/live/a")
	sessions := e.hub.Sessions()
	if len(sessions) != 1 || HandlerOf(e.hub, sessions[0]) != last {
		t.Errorf("of %d streams the first is %p's, want %p's", len(sessions), HandlerOf(e.hub, sessions[0]), last)
	}
}

func TestRefusalsOfTheHandlerAreThoseOfTheHub(t *testing.T) {
	for err, reason := range map[error]string{ErrReplaced: "reload", auth.ErrNoKeys: "identity", auth.ErrNoAnswer: "identity", errors.New("x"): "other"} {
		e := hubHandler(t, hubSetup{})
		e.hub.Refused(err)
		if e.hub.Stats().Refusals[reason] != 1 || !slices.Contains(hub.RefusalReasons(), reason) {
			t.Errorf("%v is counted as %v, want %s", err, e.hub.Stats().Refusals, reason)
		}
	}
}
