package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// script answers requests, one step each. It is a server and the way to it.
type script struct {
	t     *testing.T
	steps []step

	mu    sync.Mutex
	asked []*http.Request
	body  []string
	at    []time.Duration // when each request was made, since the first one
	first time.Time
}

// step is one answer.
type step struct {
	status int
	header string // "Name: value" lines
	body   string
	cut    error // the body ends with it; or, without a status, the request
	unsent bool  // nothing was written
	hang   bool  // the body does not end
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if s.asked == nil {
		s.first = time.Now()
	}
	s.asked, s.body, s.at = append(s.asked, r), append(s.body, string(body)), append(s.at, time.Since(s.first))
	if len(s.asked) > len(s.steps) {
		s.t.Errorf("request %d is not in the script: %s %s", len(s.asked), r.Method, r.URL)
		return nil, errors.New("the script has ended")
	}
	step := s.steps[len(s.asked)-1]
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil && !step.unsent {
		trace.WroteHeaders()
	}
	if step.status == 0 {
		return nil, step.cut
	}
	resp := &http.Response{StatusCode: step.status, Header: http.Header{}, Request: r, ProtoMajor: 1, ProtoMinor: 1}
	for line := range strings.Lines(step.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		resp.Header.Add(name, value)
	}
	resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(step.body), ending{step, r.Context()}))
	return resp, nil
}

// ending is what comes after the bytes of a body.
type ending struct {
	step step
	ctx  context.Context
}

func (e ending) Read([]byte) (int, error) {
	switch {
	case e.step.hang:
		<-e.ctx.Done()
		return 0, e.ctx.Err()
	case e.step.cut != nil:
		return 0, e.step.cut
	}
	return 0, io.EOF
}

// done reports an answer of which nobody has asked.
func (s *script) done() {
	s.t.Helper()
	if len(s.asked) != len(s.steps) {
		s.t.Errorf("%d requests, want %d", len(s.asked), len(s.steps))
	}
}

const (
	jsonType   = "Content-Type: application/json"
	streamType = "Content-Type: text/event-stream"
	okID       = `{"id":"1-2"}`
	opening    = "id: 1-0\nevent: evstream.open\ndata: {\"session\":\"s\",\"channels\":[\"a\"],\"values\":[]}\n\n"
)

// refusal is a problem.
func refusal(status int, kind, header string) step {
	outcome := ""
	if kind == "uncertain" {
		outcome = `,"outcome":"unknown"`
	}
	return step{status: status, header: "Content-Type: application/problem+json\n" + header, body: fmt.Sprintf(`{"type":"urn:evstream:problem:%s","title":"T","status":%d,"detail":"why"%s}`, kind, status, outcome)}
}

// scripted runs a test on a clock of its own.
func scripted(t *testing.T, o Options, steps []step, test func(*script, *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t, steps: steps}
		o.HTTP = &http.Client{Transport: s}
		c, err := New("http://hub.example/live/?broker=chat", o)
		if err != nil {
			t.Fatal(err)
		}
		test(s, c)
		s.done()
	})
}

var errCut = errors.New("the connection was cut")

func TestAWriteIsTriedAgainWithItsKey(t *testing.T) {
	scripted(t, Options{}, []step{
		refusal(503, "unavailable", "Retry-After: 7"), {cut: errCut}, refusal(503, "uncertain", ""), {status: 200, header: jsonType + "\nIdempotency-Replayed: true", body: okID},
	}, func(s *script, c *Client) {
		done, err := c.Publish(s.t.Context(), Publication{Channel: "a", Type: "x", Data: []byte("data")})
		if err != nil || done.ID != "1-2" || !done.Replayed {
			t.Errorf("%+v, %v", done, err)
		}
		key := s.asked[0].Header.Get("Idempotency-Key")
		for i, r := range s.asked {
			if r.Header.Get("Idempotency-Key") != key || key == "" || s.body[i] != "data" || r.URL.String() != "http://hub.example/live/a?broker=chat&event=x" {
				t.Errorf("request %d: %s %q, key %q", i, r.URL, s.body[i], r.Header.Get("Idempotency-Key"))
			}
		}
		if s.at[1] < 7*time.Second || s.at[2]-s.at[1] > time.Second || s.at[2] == s.at[1] {
			t.Errorf("they were made at %v", s.at)
		}
	})
}

func TestAnUnknownOutcomeIsCalledUnknown(t *testing.T) {
	proxy := step{status: 502, header: "Content-Type: text/html", body: "<h1>Bad Gateway</h1>"}
	busy := refusal(429, "publish-rate", "")
	for _, tt := range []struct {
		name    string
		o       Options
		key     string
		steps   []step
		unknown bool
		is      string // the kind
	}{
		{"cut without a key", Options{NoKeys: true}, "", []step{{cut: errCut}}, true, ""},
		{"never sent without a key", Options{NoKeys: true, Attempts: 2}, "", []step{{cut: errCut, unsent: true}, {cut: errCut, unsent: true}}, false, ""},
		{"cut each time", Options{Attempts: 2}, "k", []step{{cut: errCut}, {cut: errCut}}, true, ""},
		{"cut, and then refused", Options{Attempts: 3}, "k", []step{{cut: errCut}, busy, busy}, true, "publish-rate"},
		{"refused without a key", Options{NoKeys: true, Attempts: 2}, "", []step{busy, busy}, false, "publish-rate"},
		{"refused for good", Options{}, "", []step{refusal(403, "forbidden", "")}, false, "forbidden"},
		{"a proxy's answer", Options{Attempts: 1}, "k", []step{proxy}, true, ""},
		{"uncertain without a key", Options{NoKeys: true}, "", []step{refusal(503, "uncertain", "")}, true, "uncertain"},
		{"an answer that is cut", Options{Attempts: 1}, "k", []step{{status: 200, header: jsonType, body: `{"id":`, cut: io.ErrUnexpectedEOF}}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scripted(t, tt.o, tt.steps, func(s *script, c *Client) {
				_, err := c.Publish(s.t.Context(), Publication{Channel: "a", Key: tt.key})
				e, unknown := errors.AsType[*UnknownError](err)
				if err == nil || unknown != tt.unknown || unknown && e.Key != tt.key || Kind(err) != tt.is {
					t.Errorf("%v, unknown: %t", err, unknown)
				}
			})
		})
	}
}

func TestAContextEndsTheAttempts(t *testing.T) {
	scripted(t, Options{}, []step{refusal(503, "unavailable", "Retry-After: 60")}, func(s *script, c *Client) {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		_, err := c.Publish(ctx, Publication{Channel: "a"})
		if !errors.Is(err, context.DeadlineExceeded) || Kind(err) != "unavailable" {
			t.Errorf("%v", err)
		}
	})
}

// An attempt that hangs is given up, and the next one is made.
func TestAnAttemptHasItsTime(t *testing.T) {
	scripted(t, Options{}, []step{{status: 200, header: jsonType, hang: true}, {status: 200, header: jsonType, body: okID}}, func(s *script, c *Client) {
		if _, err := c.Publish(s.t.Context(), Publication{Channel: "a"}); err != nil || s.at[1] < 30*time.Second {
			t.Errorf("%v, at %v", err, s.at)
		}
	})
}

func TestWhatIsNoHubIsSaid(t *testing.T) {
	for _, tt := range []struct {
		step step
		want string
	}{
		{step{status: 200, header: "Content-Type: text/html; charset=utf-8", body: "<html>"}, "http://hub.example answers 200 OK, and is not an evstream hub there: the answer is text/html"},
		{step{status: 404, header: "Content-Type: text/plain", body: "404 page not found\n"}, `answers 404 Not Found, and is not an evstream hub there: "404 page not found"`},
		{step{status: 403}, "answers 403 Forbidden, and is not an evstream hub there: the answer is empty"},
		{step{status: 404, body: "x"}, "the answer has no type"},
		{step{status: 404, header: "Content-Type: text/plain", body: strings.Repeat("ä", 200)}, "…"},
		{step{status: 404, header: "Content-Type: application/problem+json", body: `{"type":"about:blank"}`}, "the answer is application/problem+json"},
		{step{status: 200, header: jsonType, body: "[]"}, "the answer is not the document of a hub"},
	} {
		scripted(t, Options{}, []step{tt.step}, func(s *script, c *Client) {
			if _, err := c.Info(s.t.Context(), "a"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	scripted(t, Options{}, []step{{status: 200, header: jsonType, body: "{}"}}, func(s *script, c *Client) {
		if err := c.EndSession(s.t.Context(), "x", ""); err == nil {
			t.Error("200 where 204 is meant")
		}
	})
}

func TestACredentialIsRenewed(t *testing.T) {
	no, ok := refusal(401, "unauthorized", ""), step{status: 200, header: jsonType, body: okID}
	asked := 0
	fetch := func(context.Context) (Credential, error) {
		asked++
		return Credential{Token: fmt.Sprint("token-", asked), Expires: time.Now().Add(time.Minute)}, nil
	}
	scripted(t, Options{Credential: fetch}, []step{ok, no, ok, ok, no, no}, func(s *script, c *Client) {
		for i := range 4 {
			if i == 2 {
				time.Sleep(55 * time.Second) // it is about to expire
			}
			_, err := c.Publish(s.t.Context(), Publication{Channel: "a"})
			if (err != nil) != (i == 3) || err != nil && Kind(err) != "unauthorized" {
				t.Errorf("%d: %v", i, err)
			}
		}
		var sent []string
		for _, r := range s.asked {
			sent = append(sent, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer token-"))
		}
		if fmt.Sprint(sent) != "[1 1 2 3 3 4]" {
			t.Errorf("sent %s", sent)
		}
	})
	broken := errors.New("the application is away")
	failing := func(context.Context) (Credential, error) { return Credential{}, broken }
	scripted(t, Options{Credential: failing}, nil, func(s *script, c *Client) {
		if _, err := c.Publish(s.t.Context(), Publication{Channel: "a"}); !errors.Is(err, broken) {
			t.Error(err)
		}
		if _, err := c.Subscribe(s.t.Context(), SubscribeOptions{Channels: []string{"a"}}).Next(); !errors.Is(err, broken) {
			t.Error(err)
		}
		if _, err := c.PublishLines(s.t.Context(), seq(nil)); !errors.Is(err, broken) {
			t.Error(err)
		}
	})
	both := func(context.Context) (Credential, error) { return Credential{Token: "a", Ticket: "b"}, nil }
	scripted(t, Options{Credential: both}, nil, func(s *script, c *Client) {
		if _, err := c.Info(s.t.Context(), "a"); err == nil {
			t.Error("a token and a ticket")
		}
	})
}

// read takes events and errors until the subscription ends, as text.
func read(s *Subscription) (got []string, err error) {
	for {
		e, err := s.Next()
		if gap, ok := errors.AsType[*GapError](err); ok {
			got = append(got, "gap "+gap.Reason)
			continue
		}
		if err != nil {
			return got, err
		}
		switch e.Kind {
		case KindEvent:
			got = append(got, string(e.Data))
		case KindRetry:
			got = append(got, "retry")
		case KindOpen:
			got = append(got, "open")
		case KindDirect:
			got = append(got, "direct "+string(e.Data))
		}
	}
}

// event is an event of a stream.
func event(id, data string) string {
	return fmt.Sprintf("id: %s\ndata: {\"ch\":\"a\",\"event\":\"message\",\"data\":%q}\n\n", id, data)
}

const end = "id: evstream.end\nevent: end\ndata: {}\n\n"

func TestASubscriptionComesBack(t *testing.T) {
	stream := func(body string) step { return step{status: 200, header: streamType, body: body} }
	first := stream(opening + event("1-1", "one") + "data: {\"ch\":\"a\",\"event\":\"message\",\"da")
	first.cut = errCut
	scripted(t, Options{}, []step{
		{cut: errCut, unsent: true},
		first,
		{cut: errCut},
		{status: 502},
		refusal(429, "connect-rate", "Retry-After: 60"),
		stream(opening + "id: 1-2\nevent: evstream.gap\ndata: {\"reason\":\"trimmed\",\"oldest\":\"1-2\",\"newest\":\"1-3\"}\n\n" + "retry: 9000\n"),
		stream(": evstream\nretry: 4000\n"), // over a limit
		stream(opening + event("1-5", "two") + "event: heartbeat\ndata: {}\n\nevent: evstream.new\ndata: x\n\nevent: note\ndata: {\"ch\":1}\n\n" + end),
	}, func(s *script, c *Client) {
		got, err := read(c.Subscribe(s.t.Context(), SubscribeOptions{Channels: []string{"a", "b/*"}, Types: []string{"message"}, Notices: true, Last: 3}))
		want := "[retry open one retry retry retry retry open gap trimmed retry retry open two direct {\"ch\":1}]"
		if err != io.EOF || fmt.Sprint(got) != want {
			t.Errorf("%v, got %v", err, got)
		}
		for i, r := range s.asked {
			id := []string{"", "", "1-1", "1-1", "1-1", "1-1", "1-2", "1-2"}[i]
			query := "broker=chat&channel=a&channel=b%2F%2A&envelope=1&event=message"
			if id == "" {
				query += "&last=3"
			}
			if r.Header.Get("Last-Event-ID") != id || r.URL.RawQuery != query || r.URL.Path != "/live/" {
				t.Errorf("request %d: %s from %q", i, r.URL, r.Header.Get("Last-Event-ID"))
			}
		}
		for i, least := range []time.Duration{0, 500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond, time.Minute, 9 * time.Second, 4 * time.Second} {
			if i > 0 && (s.at[i]-s.at[i-1] < least/2 || s.at[i]-s.at[i-1] > least+3*time.Second) {
				t.Errorf("request %d was made after %s, want about %s", i, s.at[i]-s.at[i-1], least)
			}
		}
	})
}

func TestEachFailureIsFollowedByALongerWait(t *testing.T) {
	steps := make([]step, 8)
	for i := range steps {
		steps[i] = step{cut: errCut, unsent: true}
	}
	steps[7] = step{status: 204}
	scripted(t, Options{}, steps, func(s *script, c *Client) {
		if got, err := read(c.Subscribe(s.t.Context(), SubscribeOptions{Channels: []string{"a"}})); err != io.EOF || got != nil {
			t.Errorf("%v, got %v", err, got)
		}
		for i, most := range []time.Duration{time.Second, time.Second, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second} {
			if wait := s.at[i+1] - s.at[i]; wait < most/4 || wait > most {
				t.Errorf("after failure %d it waits %s, want up to %s", i+1, wait, most)
			}
		}
		if last := s.at[7] - s.at[6]; last < 8*time.Second {
			t.Errorf("it waits %s in the end", last)
		}
	})
}

func TestHowASubscriptionFails(t *testing.T) {
	nothing := step{status: 200, header: streamType, hang: true}
	down := step{cut: errCut, unsent: true}
	for _, tt := range []struct {
		name  string
		o     SubscribeOptions
		steps []step
		want  string
	}{
		{"refused for good", SubscribeOptions{}, []step{refusal(403, "forbidden", "")}, "why (403 forbidden)"},
		{"a page", SubscribeOptions{}, []step{{status: 200, header: "Content-Type: text/html", body: "<html>"}}, "not an evstream hub"},
		{"has to connect", SubscribeOptions{MustConnect: true}, []step{down}, "hub.example: the connection was cut"},
		{"gives up", SubscribeOptions{GiveUp: 2 * time.Second}, []step{down, down, down, down}, "cut"},
		{"nothing comes", SubscribeOptions{MustConnect: true}, []step{nothing}, "nothing has come for 1m0s"},
		{"nothing comes on a stream", SubscribeOptions{}, []step{{status: 200, header: streamType, body: opening, hang: true}, {status: 204}}, "EOF"},
		{"an event that is too long", SubscribeOptions{MaxEvent: 10}, []step{{status: 200, header: streamType, body: opening}}, "more than 10 bytes, which is MaxEvent"},
		{"an opening that is none", SubscribeOptions{}, []step{{status: 200, header: streamType, body: "event: evstream.open\ndata: x\n\n"}}, "not the stream of an evstream hub: the data of evstream.open"},
		{"204", SubscribeOptions{LastEventID: "evstream.end"}, []step{{status: 204}}, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Channels = []string{"a"}
			if tt.name == "gives up" { // as often as there is time for it
				for range 10 {
					tt.steps = append(tt.steps, down)
				}
			}
			scripted(t, Options{}, tt.steps, func(s *script, c *Client) {
				sub := c.Subscribe(s.t.Context(), tt.o)
				got, err := read(sub)
				if len(got) != 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %q, %v", got, err)
				}
				if tt.o.GiveUp > 0 {
					if took := s.at[len(s.at)-1]; took < tt.o.GiveUp || took > 5*tt.o.GiveUp {
						t.Errorf("it was tried for %s", took)
					}
					s.steps = s.steps[:len(s.asked)]
				}
				for range sub.All() {
					if tt.want == "EOF" {
						t.Error("something comes after the end")
					}
				}
			})
		})
	}
}

func TestACredentialIsRenewedBeforeAStreamEnds(t *testing.T) {
	asked := 0
	fetch := func(context.Context) (Credential, error) { asked++; return Credential{Token: fmt.Sprint(asked)}, nil }
	expiring := "event: evstream.expiring\ndata: {\"expires\":\"2026-01-31T12:00:00Z\"}\n\n"
	scripted(t, Options{Credential: fetch}, []step{
		{status: 200, header: streamType, body: opening + event("1-1", "one") + expiring + event("1-2", "is read again"), hang: true},
		refusal(401, "unauthorized", ""),
		{status: 200, header: streamType, body: opening + event("1-2", "two") + end},
	}, func(s *script, c *Client) {
		got, err := read(c.Subscribe(s.t.Context(), SubscribeOptions{Channels: []string{"a"}}))
		if err != io.EOF || fmt.Sprint(got) != "[one two]" {
			t.Errorf("%v, got %v", err, got)
		}
		if s.at[2] != 0 || s.asked[1].Header.Get("Authorization") != "Bearer 2" || s.asked[2].Header.Get("Authorization") != "Bearer 3" {
			t.Errorf("at %v, with %v", s.at, s.asked[1].Header)
		}
	})
}

func TestATicketIsInNoError(t *testing.T) {
	ticket := func(context.Context) (Credential, error) { return Credential{Ticket: "secret"}, nil }
	scripted(t, Options{Credential: ticket}, []step{{cut: errCut}}, func(s *script, c *Client) {
		_, err := c.Subscribe(s.t.Context(), SubscribeOptions{Channels: []string{"a"}, MustConnect: true}).Next()
		if err == nil || strings.Contains(err.Error(), "secret") || s.asked[0].URL.Query().Get("ticket") != "secret" {
			t.Errorf("%v", err)
		}
	})
}

// A program may have replaced the transport of net/http.
func TestAnotherDefaultTransportIsUsed(t *testing.T) {
	s := &script{t: t, steps: []step{{status: 200, header: jsonType, body: okID}}}
	before := http.DefaultTransport
	http.DefaultTransport = s
	defer func() { http.DefaultTransport = before }()
	if _, err := newClient(t, "http://hub.example/live", Options{}).Publish(t.Context(), Publication{Channel: "a"}); err != nil {
		t.Error(err)
	}
	s.done()
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		url  string
		o    Options
		want string
	}{
		{"localhost:8080/live", Options{}, "such as https://example.com/live"},
		{"http:///live", Options{}, "has no host"},
		{"http://a/live#x", Options{}, "fragment"},
		{"http://u:secret@a/%zz", Options{}, "invalid URL escape"},
		{"http://u:secret@a/live", Options{Credential: Token("x")}, "only one of both"},
		{"http://a/live", Options{Attempts: -1}, "not negative"},
		{"http://a/live", Options{HTTP: &http.Client{Timeout: 1}}, "cut streams"},
	} {
		_, err := New(tt.url, tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", tt.url, err)
		}
	}
}

func TestHowLongIsWaited(t *testing.T) {
	c := newClient(t, "http://a/live", Options{})
	for failures, most := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 3: 2 * time.Second, 100: 30 * time.Second} {
		for range 100 {
			if d := c.backoff(failures); d < most/2 || d > most {
				t.Fatalf("after %d failures %s, want up to %s", failures, d, most)
			}
		}
	}
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "x": 0, "-1": 0, "2": 2 * time.Second, "99999": maxRetryAfter, "99999999999999999999": 0,
		"Sat, 31 Jan 2026 12:00:03 GMT": 3 * time.Second, "Sat, 31 Jan 2026 11:00:03 GMT": 0, "Sat, 31 Jan 2036 11:00:03 GMT": maxRetryAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", value, got, want)
		}
	}
}
