package scoreboard

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/internal/leaktest"
)

// A request as the endpoint got it.
type request struct {
	method, uri, kind, key, body string
}

// recorder is an endpoint that writes down what it is asked.
type recorder struct {
	mu       sync.Mutex // guards requests and status
	requests []request
	status   int
	got      chan request
}

func newRecorder() *recorder {
	return &recorder{status: http.StatusOK, got: make(chan request, 1000)}
}

func (e *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	seen := request{r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Idempotency-Key"), string(body)}
	e.mu.Lock()
	e.requests = append(e.requests, seen)
	status := e.status
	e.mu.Unlock()
	select {
	case e.got <- seen:
	default:
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"id":"1-0"}`)
}

func (e *recorder) answer(status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = status
}

func (e *recorder) seen() []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests)
}

// RoundTrip lets a test do without a socket, and so with a fake clock.
func (e *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	r.RequestURI = r.URL.RequestURI()
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestPublishingSendsExactlyTheseRequests(t *testing.T) {
	endpoint := newRecorder()
	server := httptest.NewServer(endpoint)
	defer server.Close()
	p := newPublisher(server.URL + "/evstream")
	defer p.close()

	goal := event{"football/arsenal-vs-chelsea", "score_update", `{"homeScore":1}`}
	news := event{"football/", "announcement", `{"message":"hello"}`}
	odd := event{"cricket/a b/c?d", "ball & bat", `1`}
	for _, step := range []struct {
		key    string
		events []event
	}{
		{"", nil},
		{"", []event{goal}},
		{"k-1", []event{news}},
		{"", []event{odd}},
		{"k-2", []event{goal, news}},
	} {
		if err := p.post(t.Context(), step.key, step.events); err != nil {
			t.Fatal(err)
		}
	}

	want := []request{
		{"POST", "/evstream/football/arsenal-vs-chelsea?event=score_update", "application/json", "", `{"homeScore":1}`},
		{"POST", "/evstream/football/?event=announcement", "application/json", "k-1", `{"message":"hello"}`},
		{"POST", "/evstream/cricket/a%20b/c%3Fd?event=ball+%26+bat", "application/json", "", `1`},
		{
			"POST", "/evstream/_publish", "application/json", "k-2",
			`[{"channel":"football/arsenal-vs-chelsea","event":"score_update","data":"{\"homeScore\":1}"},` +
				`{"channel":"football/","event":"announcement","data":"{\"message\":\"hello\"}"}]`,
		},
	}
	got := endpoint.seen()
	if len(got) != len(want) {
		t.Fatalf("%d requests, want %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("request %d:\n got %q\nwant %q", i, got[i], want[i])
		}
	}
}

func TestARefusalIsAnErrorThatSaysWhy(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such broker", http.StatusNotFound)
	}))
	defer server.Close()
	p := newPublisher(server.URL)
	defer p.close()
	err := p.post(t.Context(), "", []event{{"a", "b", "{}"}})
	if err == nil || !strings.Contains(err.Error(), "404 Not Found: no such broker") {
		t.Errorf("error %v, want one with the answer's status and text", err)
	}
}

// bubble makes a player of one match whose requests stay inside the test.
func bubble(endpoint *recorder, log io.Writer) *player {
	p := newPlayer(fixtures(), "http://test/evstream", time.Second, slog.New(slog.NewTextHandler(log, nil)))
	p.publish.client.Transport = endpoint
	return p
}

func TestThePlayerBeginsWithEveryMatchAndGoesOnTickByTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newRecorder()
		p := bubble(endpoint, io.Discard)
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		synctest.Wait()

		var first []event
		if err := json.Unmarshal([]byte((<-endpoint.got).body), &first); err != nil {
			t.Fatal(err)
		}
		var channels []string
		for _, e := range first {
			channels = append(channels, e.Channel+" "+e.Type)
		}
		want := "football/arsenal-vs-chelsea snapshot, football/barcelona-vs-real-madrid snapshot, " +
			"football/bayern-vs-dortmund snapshot, cricket/ind-vs-aus snapshot, cricket/eng-vs-sa snapshot, " +
			"football/ announcement, cricket/ announcement"
		if got := strings.Join(channels, ", "); got != want {
			t.Errorf("began with\n %s\nwant\n %s", got, want)
		}

		time.Sleep(10*time.Minute + time.Millisecond)
		synctest.Wait()
		cancel()
		synctest.Wait()
		keys := map[string]bool{}
		for _, r := range endpoint.seen()[1:] {
			if keys[r.key] || r.key == "" {
				t.Fatalf("key %q is used twice or empty", r.key)
			}
			keys[r.key] = true
		}
		if len(keys) < 590 {
			t.Errorf("%d ticks were published in 10 minutes", len(keys))
		}
	})
}

func TestTwoPlayersPublishATickUnderOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other := newRecorder(), newRecorder()
		ctx, cancel := context.WithCancel(t.Context())
		go bubble(one, io.Discard).run(ctx)
		time.Sleep(90*time.Second + 300*time.Millisecond)
		go bubble(other, io.Discard).run(ctx)
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()

		bodies := map[string]string{}
		for _, r := range one.seen()[1:] {
			bodies[r.key] = r.uri + r.body
		}
		for _, r := range other.seen()[1:] {
			if bodies[r.key] != r.uri+r.body {
				t.Fatalf("%s differs between two players", r.key)
			}
		}
	})
}

func TestAFailureIsLoggedOnceAndHealsWithASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newRecorder()
		endpoint.answer(http.StatusServiceUnavailable)
		var log strings.Builder
		p := bubble(endpoint, &log)
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in a minute of failures, want 1:\n%s", n, log.String())
		}
		if n := len(endpoint.seen()); n > 60 {
			t.Errorf("%d tries in a minute", n)
		}

		endpoint.answer(http.StatusOK)
		before := len(endpoint.seen())
		time.Sleep(lastBackoff + time.Millisecond)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if got := endpoint.seen()[before]; got.uri != "/evstream/_publish" || got.key != "" || strings.Count(got.body, `"snapshot"`) != 5 {
			t.Errorf("the first request after the failures is %+v, want every match", got)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines after it healed, want 2:\n%s", n, log.String())
		}
	})
}

func TestAShortAbsenceIsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newRecorder()
		endpoint.answer(http.StatusNotFound)
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		go bubble(endpoint, &log).run(ctx)
		time.Sleep(300 * time.Millisecond)
		endpoint.answer(http.StatusOK)
		time.Sleep(700 * time.Millisecond)
		cancel()
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("logged %s", log.String())
		}
		got := endpoint.seen()
		if last := got[len(got)-1]; !strings.HasPrefix(last.uri, "/evstream/") {
			t.Errorf("the last request is %+v", last)
		}
	})
}

func TestStopWaitsForThePlayerEvenInsideARequest(t *testing.T) {
	defer leaktest.VerifyNone(t)
	arrived := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a client that leaves only then
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()

	a := &App{player: newPlayer(fixtures(), server.URL, time.Second, slog.New(slog.DiscardHandler))}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.done:
	default:
		t.Error("the player runs after Stop")
	}
}
