package httpapi

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

// pieces is a body that arrives in parts, one with each read.
type pieces struct {
	parts []string
	read  func(n int) // if not nil, it is called before part n is read
	n     int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.parts) == 0 {
		return 0, io.EOF
	}
	if p.read != nil {
		p.read(p.n)
	}
	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; p.parts[0] == "" {
		p.parts = p.parts[1:]
		p.n++
	}
	return n, nil
}

// idsOf are the ids of the events that a channel keeps.
func idsOf(t *testing.T, e *Handler, channel string) (ids []broker.ID) {
	t.Helper()
	for _, d := range deliveriesOf(t, e, channel) {
		ids = append(ids, d.ID)
	}
	return ids
}

// sent is what a body leads to that arrives in parts: the answer, with the places of ids
// instead of these, and what the channels keep.
func sent(t *testing.T, e *Handler, path string, parts []string, header ...string) (answer string) {
	t.Helper()
	r := asBackend("POST", path, "", header...).build()
	r.ContentLength = -1
	r.Body = io.NopCloser(&pieces{parts: slices.Clone(parts)})
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	answer = fmt.Sprintf("%d %s %s", w.Code, w.Header().Get("Idempotency-Replayed"), w.Body)
	for _, channel := range []string{"a", "b", "c", "d"} {
		for i, id := range idsOf(t, e, channel) {
			answer = strings.ReplaceAll(answer, `"`+id.String()+`"`, fmt.Sprintf("%s#%d", channel, i))
		}
	}
	answer = regexp.MustCompile(`"\d{13}-\d+"`).ReplaceAllString(answer, "that of a closing")
	for _, channel := range []string{"a", "b", "c", "d"} {
		answer += fmt.Sprintf(" %s=%q", channel, kept(t, e, channel))
		if s := e.hub.Broker().State(channel); s.Value != nil {
			answer += "/" + string(s.Value)
		}
	}
	return answer
}

// What is appended together is answered, refused and kept as if each line had come alone.
// What defends is Op.Stage, and that together looks at each line as it is read.
func TestLinesThatArriveTogetherAreAsThoseThatArriveAlone(t *testing.T) {
	rules, err := hub.NewPublishRules([]hub.PublishRule{{Pattern: "c", Types: []string{"message", "tick", "c"}}})
	if err != nil {
		t.Fatal(err)
	}
	open := func(rate float64) *Handler {
		return newTestHandler(t, func(c *testConfig) {
			c.MaxBody = 1 << 12
			c.hub.Broker = broker.DefaultConfig()
			c.hub.Rules, c.hub.Broker.MaxStates = rules, 2
			c.hub.PublishRate = hub.Rate{PerSecond: 0.001, Burst: int(rate)}
		})
	}
	lines := []string{
		`{"channel":"a","data":1}`, `{"channel":"b","data":"two"}`, `{"channel":"c","event":"tick"}`, "",
		`{"channels":["a","b"],"data":[3]}`, `{"channel":"d","id":"own"}`, `{"channel":"d","state":{"v":1}}`,
		`{"channel":"a","state":2}`,
	}
	rare := []string{
		`{"channel":"c","event":"other"}`, `{"channel":"b","state":3}`, `{"channels":["d","b"],"state":4}`, `{"channel":"x//y"}`,
		`{"channel":"a","data":`, `{"channel":"_own"}`, `{"channel":"a","event":"evstream.end"}`, `{"channel":"b","close":true}`,
		`{"channel":"a","data":"` + strings.Repeat("x", 5000) + `"}`, `{"channel":"c","state":null}`, "\xff",
	}
	random := rand.New(rand.NewPCG(18, 6))
	said := map[string]int{}
	for round := range 150 {
		rate := 1000
		if round%5 == 0 {
			rate = 1 + random.IntN(12)
		}
		apart, together := open(float64(rate)), open(float64(rate))
		for request := range 2 {
			var parts []string
			for range random.IntN(40) {
				from := lines
				if random.IntN(20) == 0 {
					from = rare
				}
				parts = append(parts, from[random.IntN(len(from))]+"\n")
			}
			header := []string{"Content-Type: application/x-ndjson"}
			if random.IntN(3) == 0 {
				header = append(header, "Idempotency-Key: k")
			}
			want := sent(t, apart, "/live/_publish", parts, header...)
			if got := sent(t, together, "/live/_publish", []string{strings.Join(parts, "")}, header...); got != want {
				t.Fatalf("round %d, request %d, %q: together\n%s\nalone\n%s", round, request, parts, got, want)
			}
			said[want[:3]]++
			one, all := apart.hub.Broker().PublishStats(), together.hub.Broker().PublishStats()
			for result, n := range one.Results {
				if all.Results[result] != n {
					t.Fatalf("round %d, request %d, %q: %s are %d, alone %d", round, request, parts, result, all.Results[result], n)
				}
			}
		}
	}
	for _, status := range []string{"200", "400", "409", "413", "422", "429", "507"} {
		if said[status] == 0 {
			t.Errorf("no body was answered with %s", status)
		}
	}
}

// The same of events to one channel.
func TestEventsThatArriveTogetherAreAsThoseThatArriveAlone(t *testing.T) {
	for name, parts := range map[string][]string{
		"all are good":      {"data: 1\n\n", ": comment\n\n", "event: x\ndata: 2\n\n", "data: 3\r\n\r\n", "id: 5-5\ndata: 4\n\n"},
		"one is the hub's":  {"data: 1\n\n", "data: 2\n\n", "event: evstream.gap\ndata: 3\n\n", "data: 4\n\n"},
		"one is too long":   {"data: 1\n\n", "data: " + strings.Repeat("x", 5000) + "\n\n", "data: 3\n\n"},
		"the last is cut":   {"data: 1\n\n", "data: 2\n\n", "data: 3"},
		"one is not UTF-8":  {"data: 1\n\n", "data: \xff\n\n", "data: 3\n\n"},
		"more than the top": slices.Repeat([]string{"data: 1\n\n"}, 3*maxTogether+1),
	} {
		t.Run(name, func(t *testing.T) {
			open := func() *Handler { return newTestHandler(t, func(c *testConfig) { c.MaxBody = 1 << 12 }) }
			want := sent(t, open(), "/live/a", parts, "Content-Type: text/event-stream")
			if got := sent(t, open(), "/live/a", []string{strings.Join(parts, "")}, "Content-Type: text/event-stream"); got != want {
				t.Errorf("together\n%s\nalone\n%s", got, want)
			}
		})
	}
}

// What defends is beforeRead: without it a line waits for those that are to come.
func TestALineThatHasArrivedIsPublishedBeforeTheNextIsAwaited(t *testing.T) {
	for _, tt := range []struct {
		name, contentType string
		parts             []string
		want              []int // how many are published when part n is read
	}{
		{"lines", "application/x-ndjson", []string{"1\n", "2\n3\n", "4", "\n5\n6", "\n"}, []int{0, 1, 3, 3, 5}},
		{"events", "text/event-stream", []string{"data: 1\n\n", "data: 2\n\ndata: 3\n\nda", "ta: 4\n\n"}, []int{0, 1, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newTestHandler(t)
			r := asBackend("POST", "/live/a", "", "Content-Type: "+tt.contentType).build()
			r.ContentLength = -1
			r.Body = io.NopCloser(&pieces{parts: tt.parts, read: func(n int) {
				if got := len(kept(t, e, "a")); got != tt.want[n] {
					t.Errorf("before part %d is read %d are published, want %d", n, got, tt.want[n])
				}
			}})
			if resp := serve(t, e, r); resp.StatusCode != 200 {
				t.Errorf("got %s", bodyOf(t, resp))
			}
		})
	}
}

// What defends is maxTogether and maxTogetherBytes, and that lines are gathered at all.
func TestLinesThatArriveTogetherAreAppendedTogether(t *testing.T) {
	for _, tt := range []struct {
		name         string
		line         string
		lines        int
		least, most  uint64 // appends
		wantKeptLast string
	}{
		{"short lines", "1\n", 3 * maxTogether, 3, 3, ":1"},
		{"long lines", strings.Repeat("x", maxTogetherBytes/10-1) + "\n", 25, 3, 3, ":" + strings.Repeat("x", maxTogetherBytes/10-1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no time passes
				e := newTestHandler(t)
				appends := func() uint64 {
					counts := e.hub.Broker().PublishStats().Appends
					n, _ := counts.Cumulative()
					return n
				}
				before := appends()
				body := strings.Repeat(tt.line, tt.lines)
				next, err := lineTogether(t, e, body)
				if err != nil {
					t.Fatal(err)
				}
				if n := appends() - before; n < tt.least || n > tt.most || next.published != tt.lines {
					t.Errorf("%d lines in %d appends, want %d of %d to %d", next.published, n, tt.lines, tt.least, tt.most)
				}
				if got := kept(t, e, "a"); got[len(got)-1] != tt.wantKeptLast {
					t.Errorf("the last is %.20q", got[len(got)-1])
				}
			})
		})
	}
}

// lineTogether publishes lines that are all there from the beginning.
func lineTogether(t *testing.T, e *Handler, body string) (progress, error) {
	t.Helper()
	at := 0
	pr, _, err := e.publishAll(t.Context(), strings.NewReader(""), func(io.Reader) opSource {
		return func(pr *progress) ([]broker.Op, error) {
			line, rest, ok := strings.Cut(body[at:], "\n")
			if !ok {
				return nil, io.EOF
			}
			at = len(body) - len(rest)
			pr.line++
			op := broker.Op{Kind: broker.KindEvent, Channel: "a"}
			op.Event.Data = []byte(line)
			return []broker.Op{op}, nil
		}
	}, author{who: administrator, request: httptest.NewRequestWithContext(t.Context(), "POST", "/live/a", nil)})
	return pr, err
}

// Lines whose checks take long hold up no other: what defends is maxTogetherTime.
func TestALineWaitsNoLongerThanForAMoment(t *testing.T) {
	e := newTestHandler(t)
	n := 0
	_, _, err := e.publishAll(t.Context(), strings.NewReader(""), func(io.Reader) opSource {
		return func(*progress) ([]broker.Op, error) {
			if n++; n > 3 {
				return nil, errors.New("no more")
			}
			for began := time.Now(); time.Since(began) <= maxTogetherTime; { // as a slow check
			}
			if n > 2 {
				if got := len(kept(t, e, "a")); got != 2 {
					t.Errorf("%d are published after a while, want 2", got)
				}
			}
			return []broker.Op{{Kind: broker.KindEvent, Channel: "a"}}, nil
		}
	}, author{who: administrator, request: httptest.NewRequestWithContext(t.Context(), "POST", "/live/a", nil)})
	if err == nil || len(kept(t, e, "a")) != 3 {
		t.Errorf("%v, and %d are kept", err, len(kept(t, e, "a")))
	}
}

// A line that has to wait to be checked against a schema does so alone.
func TestALineDoesNotWaitForTheCheckOfTheNext(t *testing.T) {
	e := newTestHandler(t)
	by := author{who: administrator, request: httptest.NewRequestWithContext(t.Context(), "POST", "/live/a", nil)}
	together := &together{h: e, by: by, waits: func(ops []broker.Op) bool { return ops[0].Channel == "slow" }}
	for _, tt := range []struct {
		channel string
		want    int
	}{{"a", 0}, {"a", 0}, {"slow", 2}} {
		if err := together.add(t.Context(), []broker.Op{{Kind: broker.KindEvent, Channel: tt.channel}}, progress{}); err != nil {
			t.Fatal(err)
		}
		if got := len(kept(t, e, "a")); got != tt.want {
			t.Errorf("with %s %d are published, want %d", tt.channel, got, tt.want)
		}
	}
}
