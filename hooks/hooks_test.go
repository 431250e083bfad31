package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/stream"
)

// request is what a receiver got.
type request struct {
	url, id, name, session, channel, value string
	at                                     time.Duration // since the test began
	header                                 http.Header
	body                                   []byte
}

// internet answers requests in a test: answer says how.
type internet struct {
	began  time.Time
	answer func(*request) (*http.Response, error)

	mu  sync.Mutex
	got []*request
}

func (n *internet) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var payload struct {
		Type string `json:"type"`
		Data struct {
			Session, Channel string
			Value            json.RawMessage
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &payload); err != nil {
		return nil, err
	}
	q := &request{
		url: r.URL.String(), id: r.Header.Get("webhook-id"), name: strings.TrimPrefix(payload.Type, TypePrefix), at: time.Since(n.began),
		session: payload.Data.Session, channel: payload.Data.Channel, value: string(payload.Data.Value), header: r.Header, body: body,
	}
	n.mu.Lock()
	n.got = append(n.got, q)
	n.mu.Unlock()
	resp, err := n.answer(q)
	if ctx := r.Context(); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return resp, err
}

// requests are those that a URL got.
func (n *internet) requests(url string) (list []*request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range n.got {
		if q.url == url {
			list = append(list, q)
		}
	}
	return list
}

func status(code int, header ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Status: strconv.Itoa(code) + " " + http.StatusText(code), Header: h, Body: http.NoBody, ContentLength: 0}, nil
}

const (
	urlA = "http://localhost:3000/a"
	urlB = "http://localhost:3000/b"
)

// inBubble runs a test of hooks in a bubble, with the events of a and b as given.
func inBubble(t *testing.T, answer func(*request) (*http.Response, error), test func(*testing.T, *Hooks, *internet, *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		h, err := hub.Open(broker.NewMemory(), hub.Config{Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		n := &internet{began: time.Now(), answer: answer}
		k := Open(h, Options{Logger: logger, Transport: n})
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: Events()}}}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			k.Close()
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, k, n, &log)
	})
}

func session(name string, channels ...string) hub.SessionEvent {
	return hub.SessionEvent{Session: name, User: "alice", Address: "10.0.0.1", Channels: channels, Since: time.Now()}
}

// dropped checks what was dropped; reasons that are not named are 0.
func dropped(t *testing.T, k *Hooks, want map[string]uint64) {
	t.Helper()
	s := k.Stats()
	for _, reason := range DropReasons() {
		if s.Dropped[reason] != want[reason] {
			t.Errorf("%d events are dropped as %s, want %d", s.Dropped[reason], reason, want[reason])
		}
	}
}

func TestRequestHasTheFormOfTheStandard(t *testing.T) {
	secret, _ := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	inBubble(t, func(*request) (*http.Response, error) { return status(204) }, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: []string{Disconnected}, Secrets: [][]byte{secret}}}}); err != nil {
			t.Fatal(err)
		}
		e := session("s1", "a&b", "x/*")
		k.Connected(e)
		e.Reason, e.Delivered = stream.ReasonClient, 7
		k.Disconnected(e)
		synctest.Wait()
		got := n.requests(urlA)
		if len(got) != 1 {
			t.Fatalf("%d requests", len(got))
		}
		const at = "2000-01-01T00:00:00Z" // when bubbles begin
		want := `{"type":"evstream.disconnected","timestamp":"` + at + `","data":{"broker":"default","session":"s1","user":"alice","address":"10.0.0.1","channels":["a&b","x/*"],"since":"` + at + `","reason":"client","delivered":7}}`
		if string(got[0].body) != want {
			t.Errorf("the body is %s\nwant %s", got[0].body, want)
		}
		h := got[0].header
		if id := h.Get("webhook-id"); !strings.HasPrefix(id, "msg_") || strings.Contains(id, ".") {
			t.Errorf("the id is %q", id)
		}
		if want := signature([][]byte{secret}, h.Get("webhook-id"), time.Unix(946684800, 0), got[0].body); h.Get("webhook-timestamp") != "946684800" || h.Get("webhook-signature") != want || h.Get("content-type") != "application/json" {
			t.Errorf("the header is %v", h)
		}
	})
}

// A receiver that is down for a minute loses nothing, and gets what concerns a session
// in order. The id is the same in each attempt.
func TestNothingIsLostWhileAReceiverIsDownForAMinute(t *testing.T) {
	down := func(q *request) (*http.Response, error) {
		if q.at < time.Minute {
			return nil, errors.New("connection refused")
		}
		return status(200)
	}
	inBubble(t, down, func(t *testing.T, k *Hooks, n *internet, log *bytes.Buffer) {
		const sessions = 500
		for i := range sessions {
			k.Connected(session(strconv.Itoa(i)))
			k.Disconnected(session(strconv.Itoa(i)))
		}
		time.Sleep(6 * time.Minute)
		if s := k.Stats(); s.Sent != 2*sessions || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
		dropped(t, k, nil)
		order, ids := make(map[string]string), make(map[string]map[string]bool)
		for _, q := range n.requests(urlA) {
			if key := q.session + q.name; ids[key] == nil {
				ids[key] = map[string]bool{q.id: true}
			} else {
				ids[key][q.id] = true
			}
			if q.at >= time.Minute {
				order[q.session] += q.name + " "
			}
		}
		if len(ids) != 2*sessions {
			t.Errorf("%d events were sent", len(ids))
		}
		for key, of := range ids {
			if len(of) != 1 {
				t.Errorf("%s has the ids %v", key, of)
			}
		}
		for name, got := range order {
			if got != "connected disconnected " {
				t.Errorf("session %s: %s", name, got)
			}
		}
		if got := strings.Count(log.String(), "a hook fails"); got != 1 || strings.Count(log.String(), "succeeds again") != 1 {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

func TestEventIsTriedFiveTimesInAboutFiveMinutes(t *testing.T) {
	for _, code := range []int{500, 404, 301, 308} {
		inBubble(t, func(*request) (*http.Response, error) { return status(code, "Location", urlB) }, func(t *testing.T, k *Hooks, n *internet, log *bytes.Buffer) {
			k.Connected(session("a"))
			k.Disconnected(session("a"))
			time.Sleep(20 * time.Minute)
			got := n.requests(urlA)
			if len(got) != 10 || len(n.requests(urlB)) > 0 {
				t.Fatalf("%d: %d requests, and %d to where the redirect leads", code, len(got), len(n.requests(urlB)))
			}
			if took := got[4].at - got[0].at; took < 4*time.Minute || took > 6*time.Minute {
				t.Errorf("%d: five attempts took %s", code, took)
			}
			if got[4].name != Connected || got[5].name != Disconnected {
				t.Errorf("%d: the fifth is %s, the sixth %s", code, got[4].name, got[5].name)
			}
			dropped(t, k, map[string]uint64{DroppedFailed: 2})
			if strings.Count(log.String(), "are dropped") != 1 {
				t.Errorf("the log says:\n%s", log)
			}
		})
	}
}

func TestReceiverIsLeftAloneAsLongAsItAsks(t *testing.T) {
	for _, tt := range []struct {
		after string
		until time.Duration
	}{
		{"120", 2 * time.Minute},
		{"Sat, 01 Jan 2000 00:02:00 GMT", 2 * time.Minute},
		{"999999999999", time.Hour},
	} {
		answer := func(q *request) (*http.Response, error) {
			if q.at < time.Second {
				return status(503, "Retry-After", tt.after)
			}
			return status(200)
		}
		inBubble(t, answer, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
			k.Connected(session("a"))
			synctest.Wait()
			for i := range 20 {
				k.Connected(session(strconv.Itoa(i)))
			}
			time.Sleep(2 * time.Hour)
			got := n.requests(urlA)
			if len(got) != 22 || got[1].at < tt.until || got[21].at > tt.until+30*time.Second {
				t.Errorf("%s: %d requests, the second after %s, the last after %s", tt.after, len(got), got[1].at, got[len(got)-1].at)
			}
		})
	}
}

func TestGoneReceiverGetsNothingUntilTheNextConfiguration(t *testing.T) {
	gone := true
	answer := func(q *request) (*http.Response, error) {
		if gone && q.url == urlA {
			return status(410)
		}
		return status(200)
	}
	inBubble(t, answer, func(t *testing.T, k *Hooks, n *internet, log *bytes.Buffer) {
		config := Config{Hooks: []Hook{{URL: urlA, Events: Events()}, {URL: urlB, Events: Events()}}}
		if err := k.SetConfig(config); err != nil {
			t.Fatal(err)
		}
		k.Connected(session("a"))
		k.Disconnected(session("a"))
		synctest.Wait()
		k.Connected(session("b"))
		time.Sleep(time.Hour)
		if a, b := n.requests(urlA), n.requests(urlB); len(a) != 1 || len(b) != 3 {
			t.Errorf("%d and %d requests", len(a), len(b))
		}
		dropped(t, k, map[string]uint64{DroppedGone: 3})
		if strings.Count(log.String(), "has answered 410") != 1 {
			t.Errorf("the log says:\n%s", log)
		}
		gone = false
		if err := k.SetConfig(config); err != nil {
			t.Fatal(err)
		}
		k.Connected(session("c"))
		synctest.Wait()
		if a := n.requests(urlA); len(a) != 2 {
			t.Errorf("%d requests after the configuration was loaded again", len(a))
		}
	})
}

// Each URL has its share of the queue, and each session and channel a tenth of that. A
// receiver that never answers holds up no other.
func TestQueueIsBoundedForEachReceiverAndLane(t *testing.T) {
	answer := func(q *request) (*http.Response, error) {
		if q.url == urlA {
			time.Sleep(sendTimeout + time.Second) // longer than it may
		}
		return status(200)
	}
	inBubble(t, answer, func(t *testing.T, k *Hooks, n *internet, log *bytes.Buffer) {
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: Events()}, {URL: urlB, Events: []string{Disconnected}}}}); err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			k.StateChanged(broker.StateChange{Channel: "busy", ID: broker.ID{Ms: uint64(i + 1)}, Value: []byte("1")})
		}
		dropped(t, k, map[string]uint64{DroppedFull: 1500})
		for i := range 5000 {
			k.Connected(session(strconv.Itoa(i)))
		}
		dropped(t, k, map[string]uint64{DroppedFull: 2000})
		if s := k.Stats(); s.Queued != 5000 {
			t.Errorf("%d events are queued", s.Queued)
		}
		for i := range 100 {
			k.Disconnected(session(strconv.Itoa(i)))
		}
		synctest.Wait()
		if got := len(n.requests(urlB)); got != 100 {
			t.Errorf("the other receiver got %d of 100", got)
		}
		if got := strings.Count(log.String(), "are dropped"); got != 1 {
			t.Errorf("it is logged %d times", got)
		}
		if got := len(n.requests(urlA)); got > maxWorkers {
			t.Errorf("%d requests at a time", got)
		}
	})
}

// A value's newest version is told last.
func TestChangesOfAValueAreSentInOrder(t *testing.T) {
	inBubble(t, func(*request) (*http.Response, error) { time.Sleep(time.Millisecond); return status(200) }, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
		for _, i := range []uint64{1, 2, 4, 3, 6, 5} {
			k.StateChanged(broker.StateChange{Channel: "count", ID: broker.ID{Ms: i}, Value: fmt.Append(nil, i)})
		}
		k.StateChanged(broker.StateChange{Channel: "count", ID: broker.ID{Ms: 7}})
		time.Sleep(time.Second)
		var got []string
		for _, q := range n.requests(urlA) {
			got = append(got, q.value)
		}
		if want := []string{"1", "2", "3", "4", "5", "6", "null"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestReloadKeepsWhatIsQueuedForTheSameURL(t *testing.T) {
	answer := func(q *request) (*http.Response, error) {
		if q.at < time.Second {
			return status(500)
		}
		return status(200)
	}
	inBubble(t, answer, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: Events()}, {URL: urlB, Events: Events()}}}); err != nil {
			t.Fatal(err)
		}
		k.Connected(session("a"))
		synctest.Wait()
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: []string{Disconnected}, Secrets: [][]byte{make([]byte, 24)}}}}); err != nil {
			t.Fatal(err)
		}
		dropped(t, k, map[string]uint64{DroppedRemoved: 1})
		time.Sleep(time.Minute)
		a, b := n.requests(urlA), n.requests(urlB)
		if len(a) != 2 || len(b) != 1 {
			t.Fatalf("%d and %d requests", len(a), len(b))
		}
		if a[1].header.Get("webhook-signature") == "" {
			t.Error("the new secret does not sign what was queued")
		}
	})
}

// An attempt that goes on when the exit begins, and fails, is not the last one.
func TestExitTriesAgainWhatWasOnItsWay(t *testing.T) {
	answer := func(q *request) (*http.Response, error) {
		if q.at == 0 {
			time.Sleep(time.Second)
			return status(500)
		}
		return status(200)
	}
	inBubble(t, answer, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
		k.Connected(session("a"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		k.Flush(ctx)
		if s := k.Stats(); s.Sent != 1 || s.Queued != 0 || len(n.requests(urlA)) != 2 {
			t.Errorf("%d requests, %+v", len(n.requests(urlA)), s)
		}
	})
}

func TestExitSendsWhatIsQueuedWithinItsTime(t *testing.T) {
	for _, tt := range []struct {
		name       string
		after      time.Duration // it has recovered
		slow       time.Duration
		sent, lost uint64
	}{
		{"it has recovered", time.Second, 0, 20, 0},
		{"it is down", time.Hour, 0, 0, 20},
		{"it is slow", time.Second, 10 * time.Second, 0, 20},
	} {
		answer := func(q *request) (*http.Response, error) {
			if q.at < tt.after {
				return status(500)
			}
			time.Sleep(tt.slow)
			return status(200)
		}
		inBubble(t, answer, func(t *testing.T, k *Hooks, _ *internet, log *bytes.Buffer) {
			for i := range 20 {
				k.Connected(session(strconv.Itoa(i)))
			}
			time.Sleep(2 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			k.Flush(ctx)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: it took %s", tt.name, took)
			}
			s := k.Stats()
			if s.Sent != tt.sent || s.Queued != 0 {
				t.Errorf("%s: %+v", tt.name, s)
			}
			dropped(t, k, map[string]uint64{DroppedExit: tt.lost})
			if logged := strings.Contains(log.String(), "reason=exit"); logged != (tt.lost > 0) {
				t.Errorf("%s: the log says:\n%s", tt.name, log)
			}
		})
	}
}

func TestOnlyWhatIsWantedIsSent(t *testing.T) {
	inBubble(t, func(*request) (*http.Response, error) { return status(200) }, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: []string{Connected, ChannelActive}, Channels: []string{"match.*", "team/**"}}}}); err != nil {
			t.Fatal(err)
		}
		k.Connected(session("no", "chat", "other/match.1"))
		k.Connected(session("name", "chat", "match.7"))
		k.Connected(session("pattern", "**"))
		k.Disconnected(session("name", "match.7"))
		k.ChannelActive("team/a")
		k.ChannelActive("teams/a")
		k.ChannelIdle("team/a")
		synctest.Wait()
		var got []string
		for _, q := range n.requests(urlA) {
			got = append(got, q.name+" "+q.session+q.channel)
		}
		slices.Sort(got)
		if want := []string{"channel_active team/a", "connected name", "connected pattern"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestPayloadSaysWhatHasNoRoomInIt(t *testing.T) {
	long := func(i int) string { return fmt.Sprintf("%03d%s", i, strings.Repeat("n", 252)) }
	s := session("s")
	for i := range 100 {
		s.Channels = append(s.Channels, long(i))
	}
	large := broker.StateChange{Channel: "c", ID: broker.ID{Ms: 1}, Value: []byte(`"` + strings.Repeat("v", maxPayload) + `"`)}
	nearly := broker.StateChange{Channel: "c", ID: broker.ID{Ms: 1}, Value: []byte(`"` + strings.Repeat("v", maxPayload-50) + `"`)}
	user := hub.SessionEvent{Session: "s", User: strings.Repeat("\x01", maxPayload), Since: time.Now()}
	for _, tt := range []struct {
		name string
		e    *Event
		want string
	}{
		{"many channels", sessionEvent("default", Connected, &s), `"channels_omitted":50`},
		{"a large value", stateEvent("default", &large), `"value_omitted":true`},
		{"a value that nearly fits", stateEvent("default", &nearly), `"value_omitted":true`},
		{"a long user", sessionEvent("default", Connected, &user), `"user_omitted":true`},
	} {
		got := tt.e.Payload()
		if len(got) > maxPayload || !strings.Contains(string(got), tt.want) || !json.Valid(got) {
			t.Errorf("%s: %d bytes: %.200s", tt.name, len(got), got)
		}
	}
}

func TestInvalidHooksAreRefused(t *testing.T) {
	ok := Hook{URL: urlA, Events: []string{Connected}}
	with := func(change func(*Hook)) []Hook {
		h := ok
		change(&h)
		return []Hook{h}
	}
	for _, tt := range []struct {
		name  string
		hooks []Hook
		why   string
	}{
		{"one that is valid", []Hook{ok}, ""},
		{"a placeholder in the host", with(func(h *Hook) { h.URL = "https://{http.request.host}/hooks" }), "placeholder"},
		{"no scheme", with(func(h *Hook) { h.URL = "localhost/hooks" }), "such as https://"},
		{"another scheme", with(func(h *Hook) { h.URL = "ftp://localhost/hooks" }), "begins with https://"},
		{"a password", with(func(h *Hook) { h.URL = "http://a:b@localhost/hooks" }), "user or a password"},
		{"a fragment", with(func(h *Hook) { h.URL = "http://localhost/hooks#a" }), "fragment"},
		{"no secret", with(func(h *Hook) { h.URL = "https://example.com/hooks" }), "needs a secret"},
		{"no event", with(func(h *Hook) { h.Events = nil }), "needs an event"},
		{"an unknown event", with(func(h *Hook) { h.Events = []string{"connecte"} }), `did you mean "connected"`},
		{"an event twice", with(func(h *Hook) { h.Events = []string{Connected, Connected} }), "twice"},
		{"a bad pattern", with(func(h *Hook) { h.Channels = []string{"a//b"} }), "a//b"},
		{"the same URL", []Hook{ok, ok}, "same URL"},
		{"too many", slices.Repeat([]Hook{ok}, MaxHooks+1), "at most 20"},
	} {
		switch err := Check(tt.hooks); {
		case (err == nil) != (tt.why == ""):
			t.Errorf("%s: %v", tt.name, err)
		case err != nil && !strings.Contains(err.Error(), tt.why):
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestSinkGetsEventsInOrderAndOneAtATime(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *Hooks, _ *internet, _ *bytes.Buffer) {
		var mu sync.Mutex
		var got []string
		sink := func(e *Event) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e.Name+" "+e.Data.Session)
		}
		if err := k.SetConfig(Config{Sink: sink, SinkEvents: []string{Connected, Disconnected}}); err != nil {
			t.Fatal(err)
		}
		k.Connected(session("a"))
		k.Connected(session("b"))
		k.Disconnected(session("a"))
		k.ChannelActive("a")
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"connected a", "connected b", "disconnected a"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
