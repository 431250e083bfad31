package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/cli"
)

// Config is what is measured.
type Config struct {
	URL         string
	Publish     string // where to publish; "": only listen
	Body        string // of a request that publishes
	Header      []string
	Token       string
	CACert      string
	Subscribers int
	Publishers  int
	Rate        float64 // events a second of all publishers; 0: back to back
	Size        int
	Duration    time.Duration
	Warmup      time.Duration
	Connects    int // connections that are made at a time
	Timeout     time.Duration

	settle time.Duration // how long to wait for what is missing at the end; default: 3 s
}

// maxPublishers bounds what each subscriber keeps.
const maxPublishers = 16

// check refuses what cannot be meant.
func (c *Config) check() error {
	for _, n := range []struct {
		flag             string
		value, low, high int
	}{
		{"subscribers", c.Subscribers, 1, 200_000},
		{"publishers", c.Publishers, 1, maxPublishers},
		{"size", c.Size, markerLen, 1 << 20},
		{"connects", c.Connects, 1, 10_000},
	} {
		if n.value < n.low || n.value > n.high {
			return fmt.Errorf("--%s is %d to %d, not %d", n.flag, n.low, n.high, n.value)
		}
	}
	switch {
	case !(c.Rate >= 0 && c.Rate <= 1e6):
		return fmt.Errorf("--rate is 0 (back to back) to 1000000 events a second, not %v", c.Rate)
	case c.Duration < 100*time.Millisecond || c.Duration > 24*time.Hour:
		return fmt.Errorf("--duration is 100ms to 24h, not %s", c.Duration)
	case c.Warmup < 0 || c.Warmup > time.Hour:
		return fmt.Errorf("--warmup is 0 to 1h, not %s", c.Warmup)
	case c.Timeout < 10*time.Millisecond || c.Timeout > time.Hour:
		return fmt.Errorf("--timeout is 10ms to 1h, not %s", c.Timeout)
	case strings.Count(c.Body, payloadMark) != 1:
		return fmt.Errorf("--body has %s once, where the payload is to be, not %q", payloadMark, c.Body)
	}
	return nil
}

// parseURL reads the URL of a flag or an argument.
func parseURL(what, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%s is a URL such as https://example.com/live/bench, not %q", what, s)
	}
	return u, nil
}

// headers returns the header of a request.
func (c *Config) headers() (http.Header, error) {
	h := http.Header{"User-Agent": {"evstream-bench"}}
	if c.Token != "" {
		h.Set("Authorization", "Bearer "+c.Token)
	}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t\r\n") || strings.ContainsAny(value, "\r\n") {
			return nil, fmt.Errorf("--header is a line such as 'Authorization: Bearer x', not %q", line)
		}
		h.Set(name, strings.TrimSpace(value))
	}
	return h, nil
}

// Progress is told what goes on: so much of all is done, and a remark. Its calls do not
// overlap.
type Progress func(what string, done, all float64, remark string)

// bench is one run.
type bench struct {
	Config
	tally      tally
	dialer     dialer
	client     *http.Client
	publishers []*publisher
	reading    sync.WaitGroup
	pollers    []poller // that read for many subscribers; none where each needs a goroutine

	mu          sync.Mutex // guards subscribers while connections are made
	subscribers []*subscriber
	refused     reasons
	connecting  *histogram

	refusedPublishes reasons
	took, behind     *histogram
	ownDelay         *histogram
}

// errNobody is the error if no stream began.
var errNobody = errors.New("no stream began")

// Run measures. It ends early with ctx, and reports what there is by then.
func Run(ctx context.Context, c Config, progress Progress) (*Report, error) {
	b := &bench{Config: c, connecting: new(histogram), took: new(histogram), behind: new(histogram), ownDelay: new(histogram)}
	b.tally = tally{begun: time.Now(), publishes: c.Publish != "", delay: new(histogram)}
	if err := b.prepare(); err != nil {
		return nil, err
	}
	defer b.client.CloseIdleConnections()
	b.startPollers()
	defer b.leave()
	began := time.Now()
	b.connect(ctx, progress)
	connected := time.Since(began)
	if len(b.subscribers) == 0 {
		list, _ := b.refused.list()
		if len(list) == 0 {
			return nil, fmt.Errorf("%w: interrupted", errNobody)
		}
		return nil, fmt.Errorf("%w: %s", errNobody, list[0].Why)
	}
	r := b.measure(ctx, progress)
	r.ConnectSeconds = connected.Seconds()
	return r, nil
}

// prepare checks the configuration, and makes what is needed of it.
func (b *bench) prepare() error {
	if err := b.check(); err != nil {
		return err
	}
	if most := openFiles(); most > 0 && uint64(b.Subscribers+b.Publishers+50) > most {
		return fmt.Errorf("--subscribers %d needs as many open files, and this process may have %d: see ulimit -n", b.Subscribers, most)
	}
	target, err := parseURL("the argument", b.URL)
	if err != nil {
		return err
	}
	header, err := b.headers()
	if err != nil {
		return err
	}
	roots, err := cli.Roots(b.CACert)
	if err != nil {
		return err
	}
	subscribing := header.Clone()
	subscribing.Set("Accept", "text/event-stream")
	subscribing.Set("Cache-Control", "no-cache")
	b.dialer = dialer{
		url: target, header: subscribing, timeout: b.Timeout,
		tls: &tls.Config{ServerName: target.Hostname(), RootCAs: roots, NextProtos: []string{"http/1.1"}},
	}
	b.client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: maxPublishers, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if b.Publish == "" {
		return nil
	}
	if _, err := parseURL("--publish", b.Publish); err != nil {
		return err
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "text/plain")
	}
	run := fmt.Sprintf("%06x", random())
	for i := range b.Publishers {
		p := &publisher{
			index: i, run: run, client: b.client, url: b.Publish, header: header, body: b.Body, size: b.Size,
			reasons: &b.refusedPublishes, took: b.took, behind: b.behind,
		}
		if b.Rate > 0 {
			p.every = time.Duration(float64(b.Publishers) / b.Rate * float64(time.Second))
			p.offset = p.every * time.Duration(i) / time.Duration(b.Publishers)
		}
		b.publishers = append(b.publishers, p)
	}
	return nil
}

// random returns a number of 24 bits.
func random() uint32 {
	var b [3]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
}

// connect makes the connections, some at a time.
func (b *bench) connect(ctx context.Context, progress Progress) {
	turns := make(chan struct{}, b.Connects)
	done := make(chan struct{}, b.Connects)
	go func() {
		var all sync.WaitGroup
		for range b.Subscribers {
			turns <- struct{}{}
			all.Go(func() {
				b.connectOne(ctx)
				<-turns
				done <- struct{}{}
			})
		}
		all.Wait()
		close(done)
	}()
	n := 0
	for range done {
		if n++; n%10 == 0 || n == b.Subscribers {
			progress("connecting", float64(n), float64(b.Subscribers), "")
		}
	}
}

func (b *bench) connectOne(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	s, err := b.dialer.connect(ctx)
	if err != nil {
		if ctx.Err() == nil {
			b.refused.add(err)
		}
		return
	}
	b.connecting.add(time.Since(began))
	s.next = make([]uint32, len(b.publishers))
	if len(b.publishers) > 0 {
		s.scan.run = b.publishers[0].run
	}
	b.mu.Lock()
	b.subscribers = append(b.subscribers, s)
	turn := len(b.subscribers)
	b.mu.Unlock()
	switch err := s.take(&b.tally, s.early, time.Now()); {
	case err != nil:
		s.closed = true
		_ = s.conn.Close()
	case len(b.pollers) == 0 || !b.pollers[turn%len(b.pollers)].adopt(s):
		b.reading.Go(func() { s.read(&b.tally) })
	}
}

// startPollers has streams without TLS read many by a goroutine, where the system can: a
// goroutine each costs more than what it reads, and all that is on top of the delays. They
// leave half of the cores to what publishes.
func (b *bench) startPollers() {
	if b.dialer.url.Scheme != "http" {
		return
	}
	for range max(runtime.GOMAXPROCS(0)/2, 1) {
		p, err := newPoller()
		if err != nil {
			return
		}
		b.pollers = append(b.pollers, p)
		b.reading.Go(func() { p.run(&b.tally) })
	}
}

// poller reads the streams of many subscribers.
type poller interface {
	// adopt takes over the connection of a subscriber, or leaves it as it is and returns
	// false.
	adopt(s *subscriber) bool
	// run reads until close is called.
	run(t *tally)
	close()
}

// leave closes the streams, and waits for their readers.
func (b *bench) leave() {
	b.tally.ending.Store(true)
	for _, p := range b.pollers {
		p.close()
	}
	for _, s := range b.subscribers {
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}
	b.reading.Wait()
}

// measure publishes and listens, and returns what there was to see.
func (b *bench) measure(ctx context.Context, progress Progress) *Report {
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var publishers sync.WaitGroup
	start := func() {
		for _, p := range b.publishers {
			publishers.Go(func() { p.publish(publishing, &b.tally) })
		}
	}
	if b.Warmup > 0 {
		start()
		b.wait(ctx, b.Warmup, func(part float64) { progress("warming up", part, 1, "") })
	}

	watching, unwatch := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { b.watchOwnDelay(watching) })
	first := b.numbers()
	begun, cpu := time.Now(), cpuTime()
	b.tally.phase.Store(&phase{since: begun, first: first, sentAt: begun.Sub(b.tally.begun)})
	if b.Warmup == 0 {
		start() // all is measured
	}
	var before uint64
	last := begun
	b.wait(ctx, b.Duration, func(part float64) {
		now, n := time.Now(), b.tally.events.Load()
		rate := float64(n-before) / now.Sub(last).Seconds()
		before, last = n, now
		progress("measuring", part, 1, commas(uint64(rate))+" events a second")
	})
	took, inTime := time.Since(begun), b.tally.events.Load()
	used := cpuTime() - cpu
	unwatch()
	watch.Wait()
	stop()
	publishers.Wait()
	end := b.numbers()
	if b.Publish != "" {
		var expected uint64
		for i := range end {
			expected += uint64(end[i]-first[i]) * uint64(len(b.subscribers))
		}
		b.settle(expected)
	}
	b.leave()

	r := &Report{
		URL: b.URL, Publish: b.Publish, Subscribers: b.Subscribers, Connected: len(b.subscribers), Seconds: took.Seconds(),
		Rate: b.Rate, Size: b.Size, Publishers: len(b.publishers),
		Events: b.tally.events.Load(), Bytes: b.tally.bytes.Load(), EventsPerSecond: float64(inTime) / took.Seconds(),
		Delay: figuresOf(b.tally.delay), Bars: b.tally.delay.bars(), Connecting: figuresOf(b.connecting),
		Cores: runtime.GOMAXPROCS(0), OwnDelay: figuresOf(b.ownDelay), Interrupted: ctx.Err() != nil,
	}
	if used > 0 {
		r.CPU = used.Seconds() / took.Seconds()
	}
	r.ConnectErrors, r.ConnectFailed = b.refused.list()
	for _, s := range b.subscribers {
		r.Lost += s.lost
		r.Unordered += s.odd
		if s.closed {
			r.Closed++
			continue
		}
		for i, number := range end {
			r.Lost += uint64(number - min(max(s.next[i], first[i]), number))
		}
	}
	if b.Publish != "" {
		took, behind := figuresOf(b.took), figuresOf(b.behind)
		r.Publishing, r.Behind = &took, &behind
		r.PublishErrors, r.PublishFailed = b.refusedPublishes.list()
		for _, p := range b.publishers {
			r.Published += p.taken.Load()
			r.Unknown += p.unknown.Load()
		}
	}
	return r
}

// numbers returns the number of each publisher's next event.
func (b *bench) numbers() []uint32 {
	list := make([]uint32, len(b.publishers))
	for i, p := range b.publishers {
		list[i] = p.number.Load()
	}
	return list
}

// wait waits, or until ctx ends, and says how much of it is over.
func (b *bench) wait(ctx context.Context, d time.Duration, tell func(part float64)) {
	begun := time.Now()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-tick.C:
			tell(min(time.Since(begun).Seconds()/d.Seconds(), 1))
		}
	}
}

// settle waits until so many events have come, or none any more.
func (b *bench) settle(expected uint64) {
	patience := cmp.Or(b.Config.settle, 3*time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last, since := b.tally.events.Load(), time.Now()
	for time.Since(since) < patience && last < expected {
		<-tick.C
		if n := b.tally.events.Load(); n != last {
			last, since = n, time.Now()
		}
	}
}

// watchOwnDelay measures how late this program itself is: how long after its time a
// timer fires.
func (b *bench) watchOwnDelay(ctx context.Context) {
	const every = 5 * time.Millisecond
	timer := newSleeper()
	defer timer.close()
	for due := time.Now().Add(every); timer.until(ctx, due); due = time.Now().Add(every) {
		b.ownDelay.add(time.Since(due))
	}
}
