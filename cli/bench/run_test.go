package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/cli/internal/term"
)

// plain is the plainest server of event streams, with what it does wrong.
type plain struct {
	mu      sync.Mutex
	streams map[chan string]bool
	numbers int
	change  func(n int, data string) []string // what becomes of the nth event
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.numbers++
		data := []string{string(body)}
		if p.change != nil {
			data = p.change(p.numbers, string(body))
		}
		for stream := range p.streams {
			for _, d := range data {
				stream <- d
			}
		}
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	stream := make(chan string, 10_000)
	p.mu.Lock()
	if p.streams == nil {
		p.streams = map[chan string]bool{}
	}
	p.streams[stream] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.streams, stream)
		p.mu.Unlock()
	}()
	control := http.NewResponseController(w)
	_ = control.Flush()
	for {
		select {
		case d := <-stream:
			if d == "close" {
				return
			}
			_, _ = fmt.Fprintf(w, "data: {\"d\":%q}\n\n", d)
			_ = control.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// measured is a run against a server that ends when so many requests to publish have
// come, or with its duration.
func measured(t *testing.T, h http.Handler, publishes int, change func(*Config)) *Report {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		if r.Method == http.MethodPost && asked.Add(1) == int64(publishes) {
			cancel()
		}
	}))
	defer s.Close()
	c := Config{
		URL: s.URL, Publish: s.URL, Body: payloadMark, Subscribers: 5, Publishers: 1, Size: 100,
		Duration: time.Hour, Connects: 2, Timeout: time.Minute, settle: 5 * time.Second,
	}
	change(&c)
	r, err := Run(ctx, c, func(string, float64, float64, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Servers that lose events, send them twice, swap them, and close streams: each is
// counted, and a good one has nothing.
func TestWhatAServerDoesWrongIsCounted(t *testing.T) {
	once := func(n int, instead func(data string) []string) func(int, string) []string {
		return func(i int, data string) []string {
			if i == n {
				return instead(data)
			}
			return []string{data}
		}
	}
	for _, tt := range []struct {
		name                string
		change              func(int, string) []string
		lost, odd, closures uint64
	}{
		{"good", nil, 0, 0, 0},
		{"lost", once(10, func(string) []string { return nil }), 5, 0, 0},
		{"twice", once(10, func(d string) []string { return []string{d, d} }), 0, 5, 0},
		{"swapped", swapped(), 5, 5, 0},
		{"closed", once(10, func(string) []string { return []string{"close"} }), 0, 0, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := measured(t, &plain{change: tt.change}, 50, func(*Config) {})
			if r.Connected != 5 || r.Published == 0 || r.Lost != tt.lost || r.Unordered != tt.odd || uint64(r.Closed) != tt.closures {
				t.Errorf("%+v", r)
			}
			if tt.name == "good" && (r.Events != 5*r.Published || r.Delay.Count == 0 || r.Delay.P50 <= 0 || r.failed()) {
				t.Errorf("%+v", r)
			}
			if tt.name != "good" && !r.failed() {
				t.Error("that is no failure")
			}
		})
	}
}

// swapped sends the tenth event after the one that follows it.
func swapped() func(int, string) []string {
	var held string
	return func(n int, data string) []string {
		switch n {
		case 10:
			held = data
			return nil
		case 11:
			return []string{data, held}
		}
		return []string{data}
	}
}

// What is lost at the end has nothing after it that shows it.
func TestALostTailIsCounted(t *testing.T) {
	var from int
	r := measured(t, &plain{change: func(n int, data string) []string {
		if n > 10 {
			from++
			return nil
		}
		return []string{data}
	}}, 20, func(*Config) {})
	if r.Lost != 5*uint64(from) {
		t.Errorf("%d events were not sent to 5 streams, and %d are lost", from, r.Lost)
	}
}

func TestSeveralPublishersAreToldApart(t *testing.T) {
	r := measured(t, &plain{}, 100, func(c *Config) { c.Publishers, c.Rate, c.Warmup = 4, 400, 20*time.Millisecond })
	if r.Lost > 0 || r.Unordered > 0 || r.Publishers != 4 || r.Publishing.Count == 0 {
		t.Errorf("%+v", r)
	}
}

// A server that stops for a while delays the publisher, too. What was to be published
// meanwhile is as late as it is to readers.
func TestAServerThatStopsIsNotSpared(t *testing.T) {
	const stop = 200 * time.Millisecond
	r := measured(t, &plain{change: func(n int, data string) []string {
		if n == 10 {
			time.Sleep(stop)
		}
		return []string{data}
	}}, 60, func(c *Config) { c.Rate, c.Subscribers = 500, 1 })
	// At 500 a second these fifty were to be published while it stood still, and not one
	// of them only.
	late := uint64(0)
	for _, bar := range r.Bars {
		if bar.To > 40*time.Millisecond {
			late += bar.Count
		}
	}
	if late < 45 || r.Behind.Max < stop/2 {
		t.Errorf("%d events were late, the publisher by %s: %+v", late, r.Behind.Max, r.Bars)
	}
}

func TestStreamsOfOthersAreListenedTo(t *testing.T) {
	ticks := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = fmt.Fprint(w, ": a comment\n\ndata: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	r := measured(t, ticks, 0, func(c *Config) { c.Publish, c.Duration = "", 300*time.Millisecond })
	if r.Events == 0 || r.Delay.Count == 0 || r.Delay.P50 > time.Second || r.failed() || r.Publishing != nil {
		t.Errorf("%+v", r)
	}
}

func TestPublishingThatIsRefusedIsCounted(t *testing.T) {
	s := new(plain)
	n := 0
	r := measured(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if n++; n%2 == 0 {
				http.Error(w, "too\x1b[2J many", http.StatusTooManyRequests)
				return
			}
		}
		s.ServeHTTP(w, r)
	}), 20, func(*Config) {})
	if r.PublishFailed == 0 || r.Lost > 0 || r.Unordered > 0 || len(r.PublishErrors) != 1 || !strings.Contains(r.PublishErrors[0].Why, "429 Too Many Requests: too [2J many") {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsNoStreamIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a page":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>") }, `it answers 200 OK with "text/html`},
		"not found":  {http.NotFound, "it answers 404 Not Found"},
		"a redirect": {http.RedirectHandler("/there", http.StatusFound).ServeHTTP, `to "/there": name that URL`},
		"an encoding": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Content-Encoding", "br")
		}, "is compressed"},
		"never":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer in 100ms"},
		"no HTTP":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"a bad status": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(tt.answer)
			defer s.Close()
			c := Config{URL: s.URL, Body: payloadMark, Subscribers: 3, Publishers: 1, Size: 100, Duration: time.Second, Connects: 3, Timeout: time.Minute}
			if name == "never" {
				c.Timeout = 100 * time.Millisecond
			}
			_, err := Run(t.Context(), c, func(string, float64, float64, string) {})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// ^C ends a run early, and what there is by then is reported.
func TestARunThatIsInterruptedReports(t *testing.T) {
	s := httptest.NewServer(new(plain))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Run(ctx, Config{
		URL: s.URL, Publish: s.URL, Body: payloadMark, Subscribers: 3, Publishers: 1, Rate: 100, Size: 100,
		Duration: time.Hour, Connects: 3, Timeout: time.Minute,
	}, func(what string, _, _ float64, _ string) {
		if what == "measuring" {
			cancel()
		}
	})
	if err != nil || !r.Interrupted || r.Seconds > 60 {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestTheReportOfARunIsWrittenForPeople(t *testing.T) {
	r := Report{
		Publish: "x", Subscribers: 1000, Connected: 999, ConnectErrors: []Reason{{"refused", 1}}, Closed: 1, Events: 1_234_567, EventsPerSecond: 123_456.7, Seconds: 10,
		Published: 1234, Rate: 200, Publishing: &Figures{P50: 120 * time.Microsecond}, Delay: Figures{Count: 4, P50: 1234 * time.Microsecond, Max: 2 * time.Second},
		Bars: []Bar{{2 * time.Millisecond, 3}, {4 * time.Millisecond, 1}}, Cores: 2, CPU: 1.9, Unknown: 1,
	}
	var b strings.Builder
	if err := r.print(&b, term.Painter{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"connected      999 of 1,000", "1 failed: refused", "1,234,567 in 10.0 s: 123,456 a second", "p50 1.23 ms", "max 2.00 s",
		"  < 2.00 ms     75.00 % " + strings.Repeat("█", 40) + "\n", "  < 4.00 ms     25.00 % " + strings.Repeat("█", 13) + "▎\n",
		"took 95 % of all cores", "15.4 µs an event", "an event to all takes this program about 7.69 ms to read", "published 123 a second and not 200", "got no answer",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
