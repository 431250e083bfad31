package evstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/stream"
)

func TestASubscriberGetsWhatIsPublished(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		s := openStream(t, e, "/live/match.7")
		for name, want := range map[string]string{
			"Content-Type":      "text/event-stream",
			"Cache-Control":     "no-cache, no-store, no-transform",
			"X-Accel-Buffering": "no",
			"Incremental":       "?1",
			"Content-Length":    "",
		} {
			if got := s.resp.Header.Get(name); got != want || s.resp.StatusCode != 200 {
				t.Errorf("%d, %s %q, want %q", s.resp.StatusCode, name, got, want)
			}
		}
		s.opened()
		id := mustPost(t, e, "/live/match.7?event=score&retry=3000", "2\n1")
		if got, want := s.next(), "id: "+id+"\nevent: score\nretry: 3000\ndata: 2\ndata: 1\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestWhatASubscriberMayAsk(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name, path string
			header     []string
			want       []string
		}{
			{"nothing", "/live/match.7", nil, []string{"data: live\n"}},
			{"any type", "/live/match.7", []string{"Accept: */*"}, []string{"data: live\n"}},
			{"channels of the query", "/live/?channel=match.7&channel=match.8&channel=match.7", nil, []string{"data: live\n"}},
			{"path and query", "/live/match.7?channel=match.8&channel=match.7", nil, []string{"data: live\n"}},
			{"the mount with a slash", "/live/?channel=match.7", nil, []string{"data: live\n"}},
			{"a pattern", "/live/?channel=match.*", nil, []string{"data: live\n"}},
			{"a pattern in the path", "/live/match.*", nil, []string{"data: live\n"}},
			{"earliest", "/live/match.7?since=earliest", nil, []string{"event: a\ndata: 1\n", "event: b\ndata: 2\n", "data: 3\n", "data: live\n"}},
			{"a duration", "/live/match.7?since=1h", nil, []string{"event: a\ndata: 1\n"}},
			{"a time", "/live/match.7?since=2020-01-31T12:00:00%2B02:00", nil, []string{"event: a\ndata: 1\n"}},
			{"a time with a plain plus sign", "/live/match.7?since=2020-01-31T12:00:00+02:00", nil, []string{"event: a\ndata: 1\n"}},
			{"a time to come", "/live/match.7?since=2999-01-31T12:00:00Z", nil, []string{"data: live\n"}},
			{"the last", "/live/match.7?last=2", nil, []string{"event: b\ndata: 2\n", "data: 3\n", "data: live\n"}},
			{"none of the last", "/live/match.7?last=0", nil, []string{"data: live\n"}},
			{"some types", "/live/match.7?since=earliest&event=a&event=message", nil, []string{"event: a\ndata: 1\n", "data: 3\n", "data: live\n"}},
			{"the envelope", "/live/match.7?last=1&envelope=1", nil, []string{`data: {"ch":"match.7","event":"message","data":"3"}` + "\n"}},
			{"a cursor", "/live/match.7", []string{"Last-Event-ID: @2"}, []string{"data: 3\n", "data: live\n"}},
			{"a cursor in the query", "/live/match.7?last_event_id=@2", nil, []string{"data: 3\n"}},
			{"as a polyfill spells it", "/live/match.7?lastEventId=@2", nil, []string{"data: 3\n"}},
			{"as another does", "/live/match.7?evs_last_event_id=@2", nil, []string{"data: 3\n"}},
			{"the header wins", "/live/match.7?last_event_id=@1", []string{"Last-Event-ID: @2"}, []string{"data: 3\n"}},
			{"the cursor wins", "/live/match.7?since=earliest&last=3", []string{"Last-Event-ID: @2"}, []string{"data: 3\n"}},
			{"an empty header is none", "/live/match.7?last_event_id=@2", []string{"Last-Event-ID: "}, []string{"data: 3\n"}},
			{"an unknown cursor", "/live/match.7", []string{"Last-Event-ID: nonsense"}, []string{"event: evstream.gap\ndata: {\"reason\":\"unknown\"", "event: a\ndata: 1\n"}},
			{"a cursor of another run", "/live/match.7", []string{"Last-Event-ID: 1-1"}, []string{"event: evstream.gap\ndata: {\"reason\":\"restarted\"", "event: a\ndata: 1\n"}},
			{"a cursor that is too long", "/live/match.7", []string{"Last-Event-ID: " + strings.Repeat("9", 4097)}, []string{"event: evstream.gap\ndata: {\"reason\":\"unknown\"", "event: a\ndata: 1\n"}},
			{"a cursor with a newline", "/live/match.7?last_event_id=a%0Ab", nil, []string{"event: evstream.gap\ndata: {\"reason\":\"unknown\"", "event: a\ndata: 1\n"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t)
				ids := []string{
					mustPost(t, e, "/live/match.7?event=a", "1"),
					mustPost(t, e, "/live/match.7?event=b", "2"),
					mustPost(t, e, "/live/match.7", "3"),
				}
				fill := strings.NewReplacer("@1", ids[0], "@2", ids[1])
				header := slices.Clone(tt.header)
				for i := range header {
					header[i] = fill.Replace(header[i])
				}
				s := openStream(t, e, fill.Replace(tt.path), header...)
				s.opened()
				mustPost(t, e, "/live/match.7", "live")
				for _, want := range tt.want {
					if got := s.event(); !strings.HasPrefix(got, want) {
						t.Fatalf("got %q, want %q", got, want)
					}
				}
			})
		}
	})
}

func TestPaddingAndOpening(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, path := range []string{"/live/match.7?padding=1", "/live/match.7?evs_preamble=1", "/live/match.7?evs_preamble"} {
			if got := openStream(t, e, path).next(); len(got) < 2048 || got[0] != ':' {
				t.Errorf("%s begins with %d bytes", path, len(got))
			}
		}
		s := openStream(t, e, "/live/match.7?open=0")
		mustPost(t, e, "/live/match.7", "x")
		if got := s.event(); got != ": evstream\nretry: 2000\ndata: x\n" {
			t.Errorf("without an opening event, got %q", got)
		}
	})
}

func TestBadSubscriptionsAreTold(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		channels := func(n int) string {
			var s strings.Builder
			for i := range n {
				fmt.Fprintf(&s, "&channel=public/%d", i)
			}
			return "/live/?" + s.String()[1:]
		}
		types := strings.Repeat("&event=x", 1)
		for i := range 100 {
			types += fmt.Sprintf("&event=%d", i)
		}
		for _, tt := range []struct {
			name, path string
			header     []string
			status     int
			kind       string
			detail     string
		}{
			{"since what", "/live/match.7?since=yesterday", nil, 400, "bad-parameter", `since is earliest, a duration such as 30s, or a time such as 2026-01-31T12:00:00Z, not "yesterday"`},
			{"since nothing", "/live/match.7?since=", nil, 400, "bad-parameter", "since is earliest"},
			{"since a time to come", "/live/match.7?since=-1h", nil, 400, "bad-parameter", "since is earliest"},
			{"the last few", "/live/match.7?last=few", nil, 400, "bad-parameter", `last is how many events to begin with, such as 10, not "few"`},
			{"less than none", "/live/match.7?last=-1", nil, 400, "bad-parameter", "last is how many"},
			{"more than a number", "/live/match.7?last=99999999999999999999", nil, 400, "bad-parameter", "last is how many"},
			{"envelope what", "/live/match.7?envelope=json", nil, 400, "bad-parameter", `envelope is 1 or 0, not "json"`},
			{"open what", "/live/match.7?open=maybe", nil, 400, "bad-parameter", "open is 1 or 0"},
			{"padding what", "/live/match.7?padding=2048", nil, 400, "bad-parameter", "padding is 1 or 0"},
			{"a broken cursor", "/live/match.7?last_event_id=%zz", nil, 400, "bad-parameter", "last_event_id"},
			{"two starts", "/live/match.7?since=1s&since=2s", nil, 400, "bad-parameter", "since is given more than once"},
			{"types without end", "/live/match.7?" + types[1:], nil, 400, "bad-parameter", "101 event types, at most 100"},
			{"too many channels", channels(101), nil, 400, "too-many-channels", "at most 100"},
			{"a name that is none", "/live/?channel=public/a%20b", nil, 400, "bad-channel", "is not allowed"},
			{"a name beneath", "/live/?channel=public/a/", nil, 400, "bad-channel", ""},
			{"an empty name", "/live/?channel=", nil, 400, "bad-channel", "1 to 255 bytes"},
			{"a pattern that is none", "/live/?channel=public/a**b", nil, 400, "bad-channel", "** stands alone"},
			{"a long name", "/live/?channel=" + strings.Repeat("x", 256), nil, 400, "bad-channel", "1 to 255 bytes"},
			{"one that is not allowed", "/live/?channel=match.7&channel=secret", nil, 401, "unauthorized", `permission to subscribe, here channel "secret"`},
			{"everything", "/live/?channel=**", nil, 401, "unauthorized", "permission to subscribe"},
			{"not even for a guest", "/live/?channel=match.7&channel=secret", []string{"Authorization: Bearer " + guestSecret}, 403, "forbidden", `guest has no permission to subscribe, here channel "secret"`},
			{"a wrong bearer where anyone may", "/live/match.7", []string{"Authorization: Bearer nonsense"}, 401, "unauthorized", "not known here"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for _, more := range []string{"", "poll=1&"} { // a poll reads the same
					path := strings.Replace(tt.path, "?", "?"+more, 1)
					resp := ask(t, e, request{"GET", path, append([]string{"Accept: */*"}, tt.header...), ""})
					doc := wantProblem(t, resp, tt.status, tt.kind)
					if !strings.Contains(doc.Detail, tt.detail) {
						t.Errorf("detail %q, want %q", doc.Detail, tt.detail)
					}
					if strings.Contains(tt.kind, "unauthorized") && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
						t.Error("no challenge")
					}
					if strings.Contains(tt.path, "open=") || strings.Contains(tt.path, "padding=") {
						break // no concern of a poll's
					}
				}
				if n := e.hub.Broker().Stats().Subscriptions; n != 0 {
					t.Errorf("%d subscriptions are left", n)
				}
			})
		}
	})
}

func TestAStreamThatWasEndedIsNotServedAgain(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, q := range []request{
			{"GET", "/live/match.7", []string{"Last-Event-ID: " + stream.EndID}, ""},
			{"GET", "/live/match.7?lastEventId=" + stream.EndID, nil, ""},
			{"GET", "/live/match.7?poll=1", []string{"Last-Event-ID: " + stream.EndID}, ""},
		} {
			if resp := ask(t, e, q); resp.StatusCode != http.StatusNoContent {
				t.Errorf("%s: %d", q.path, resp.StatusCode)
			}
		}
	})
}

func TestOverload(t *testing.T) {
	const client = "192.0.2.1"
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name      string
			configure func(*BrokerConfig)
			fill      func(*testing.T, *hub.Hub)
			status    int
			kind      string
		}{
			{"subscriptions", func(c *BrokerConfig) { c.MaxConnections = 1 }, nil, 503, "overloaded"},
			{"subscribers", func(c *BrokerConfig) { c.MaxSubscribers = 1 }, nil, 503, "overloaded"},
			{"channels", func(c *BrokerConfig) { c.MaxChannels = 1 }, nil, 503, "overloaded"},
			{"an address", func(c *BrokerConfig) { c.MaxConnectionsPerIP = 1 }, func(t *testing.T, h *hub.Hub) {
				if err := h.AddPoll(client, ""); err != nil {
					t.Fatal(err)
				}
			}, 429, "too-many-connections"},
			{"the exit", func(*BrokerConfig) {}, func(_ *testing.T, h *hub.Hub) { h.Drain(0) }, 503, "unavailable"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for _, answer := range []string{"retry", "503"} {
					t.Run(answer, func(t *testing.T) {
						e := on.start(t, func(c *siteConfig) {
							tt.configure(c.broker)
							c.handler.OnOverload = answer
						})
						if tt.fill != nil {
							tt.fill(t, e.hub)
						}
						if !e.hub.Draining() {
							sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"match.7"}})
							if err != nil {
								t.Fatal(err)
							}
							defer sub.Close()
						}
						path := "/live/match.7"
						if tt.name == "channels" {
							path = "/live/match.8"
						}
						before := e.hub.Broker().Stats().Subscriptions

						from := []string{"X-Forwarded-For: " + client}
						resp := ask(t, e, request{"GET", path, from, ""})
						if answer == "retry" {
							body := bodyOf(t, resp)
							if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || !strings.HasSuffix(body, "; come back later\nretry: 2000") {
								t.Errorf("got %d %q", resp.StatusCode, body)
							}
						} else {
							wantProblem(t, resp, tt.status, tt.kind)
							if got := resp.Header.Get("Retry-After"); got != "2" {
								t.Errorf("Retry-After %q", got)
							}
						}
						if got := e.hub.Broker().Stats().Subscriptions; got != before || len(e.hub.Sessions()) > 0 {
							t.Errorf("%d subscriptions are left, %d streams", got-before, len(e.hub.Sessions()))
						}
						// A poll has no EventSource to spare.
						wantProblem(t, ask(t, e, request{"GET", path + "?poll=1", from, ""}), tt.status, tt.kind)
					})
				}
			})
		}
	})
}

func TestTheHubKnowsWhoIsServed(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		s := openStream(t, e, "/live/?channel=match.7&channel=match.*", "Authorization: Bearer "+guestSecret)
		s.opened()
		sessions := e.hub.Sessions()
		if len(sessions) != 1 {
			t.Fatalf("%d streams", len(sessions))
		}
		session := sessions[0]
		if who := e.hub.Standing(session).Caller; who.Name != "guest" || !slices.Equal(session.Stream.Channels(), []string{"match.7", "match.*"}) {
			t.Errorf("%s reads %q", who, session.Stream.Channels())
		}
		if _, err := netip.ParseAddr(session.Address); err != nil {
			t.Errorf("address %q", session.Address)
		}
		session.Stream.End()
		if got := s.next(); got != "id: evstream.end\nevent: end\ndata: {}\n" {
			t.Errorf("got %q", got)
		}
		if rest, err := io.ReadAll(s.lines); err != nil || len(rest) > 0 {
			t.Errorf("then %q, %v", rest, err)
		}
		eventually(t, "the stream to leave", func() bool { return len(e.hub.Sessions()) == 0 })
		if left := e.hub.Stats().Disconnects; left[stream.ReasonEnded] != 1 {
			t.Errorf("left %v", left)
		}
	})
}

func TestABodyOfASubscriberIsIgnored(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/live/match.7", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := over(t, "HTTP/1.1").Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, b); err != nil || resp.StatusCode != 200 || b[0] != ':' {
			t.Errorf("%d %q, %v", resp.StatusCode, b, err)
		}
		wantProblem(t, ask(t, e, request{"GET", "/live/match.7", nil, strings.Repeat("x", 1<<17)}), 400, "bad-body")
	})
}

// A host that does not know better tells the address of the connection.
func TestClientAddress(t *testing.T) {
	for remote, want := range map[string]string{"192.0.2.1:1234": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1", "@": "@"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		if got := new(caddyHost).ClientIP(r); got != want {
			t.Errorf("%s: got %s, want %s", remote, got, want)
		}
	}
}
