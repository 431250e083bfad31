package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// killsEnv is how often Caddy is killed at full scale; see `make kills`.
const killsEnv = "EVSTREAM_KILLS"

// TestWhatIsAcknowledgedSurvivesKills kills Caddy while many publish to its durable
// log, set and increment values, and read, and while its log is compacted and backed up
// again and again. Nothing that was acknowledged is lost,
// nothing comes twice, and readers get what the log has, in order and without a gap.
func TestWhatIsAcknowledgedSurvivesKills(t *testing.T) {
	t.Parallel()
	k := &kills{
		t: t, times: 4, rate: 400, publishers: 8, subscribers: 20,
		http: manyRequests(t), quit: make(chan struct{}),
	}
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		if k.times, err = strconv.Atoi(text); err != nil || k.times < 1 {
			t.Fatalf("%s is a number of kills, not %q", killsEnv, text)
		}
		k.rate, k.publishers, k.subscribers = 5000, 64, 100
	}
	k.server = start(t, config(`
	evstream {
		adapter bolt `+t.TempDir()+`
		history 1000000 1h 256MiB
		max_history 4GiB
	}`, `
	evstream /live/* {
		allow anyone subscribe,publish,state **
	}`))
	defer k.stop()
	k.subscribe()
	for range k.publishers {
		k.writers.Go(k.publish)
	}
	for i := range k.added {
		k.writers.Go(func() { k.add(i) })
		k.writers.Go(func() { k.set(i) })
	}
	k.writers.Go(func() { k.keepUp("POST", "_compact") })
	k.writers.Go(func() { k.keepUp("GET", "_backup") })
	for n := range k.times {
		before := k.acknowledged.Load()
		eventually(t, "publishes are acknowledged", func() bool { return k.acknowledged.Load() > before+50 })
		<-time.After(rand.N(time.Duration(min(n+1, 8)) * 100 * time.Millisecond)) //nolint:forbidigo // the kill is to come at any moment
		k.server.kill()
		k.killed()
	}
	k.stop()
	k.check()
}

// kills is the test's state.
type kills struct {
	t                                    *testing.T
	times, rate, publishers, subscribers int
	server                               *server
	http                                 *http.Client
	quit                                 chan struct{}
	stopped                              sync.Once
	writers                              sync.WaitGroup

	numbers, acknowledged, retried atomic.Int64
	kept                           atomic.Int64    // compactions and backups
	added, setTo                   [4]atomic.Int64 // increments, and what was set, that were acknowledged

	mu      sync.Mutex
	sent    []sent // that were acknowledged, or whose outcome is unknown
	readers []*survivor
}

// killed starts Caddy again, and checks the values first of all.
func (k *kills) killed() {
	var set, added [len(k.setTo)]int64
	for i := range set {
		set[i], added[i] = k.setTo[i].Load(), k.added[i].Load()
	}
	k.server.restart()
	for i := range set {
		if v := k.value(fmt.Sprintf("set/%d", i)); v < set[i] {
			k.t.Errorf("set/%d was acknowledged as %d, and is %d after a kill", i, set[i], v)
		}
		if v := k.value(stateName(i)); v < added[i] {
			k.t.Errorf("%s was incremented %d times, and is %d after a kill", stateName(i), added[i], v)
		}
	}
}

// value is a number that is the value of a channel; 0 if it has none.
func (k *kills) value(name string) (n int64) {
	eventually(k.t, "the value of "+name, func() bool {
		text, _, err := valueAt(k.server, name, "no-cache")
		if err != nil {
			return false
		}
		n, _ = strconv.ParseInt(text, 10, 64)
		return true
	})
	return n
}

func (k *kills) stop() {
	k.stopped.Do(func() { close(k.quit) })
	k.writers.Wait()
}

// each calls write at the writer's part of the rate, until quit.
func (k *kills) each(rate float64, write func() error) {
	every := time.Duration(float64(time.Second) / rate)
	for next := time.Now().Add(rand.N(every)); ; next = next.Add(every) {
		select {
		case <-k.quit:
			return
		case <-time.After(time.Until(next)):
		}
		if err := write(); err != nil {
			k.t.Error(err)
			return
		}
		if time.Since(next) > time.Second {
			next = time.Now()
		}
	}
}

// ask sends a request of a writer.
func (k *kills) ask(method, path, key, body string) (outcome, broker.ID, error) {
	r, err := http.NewRequest(method, plainH1.url(k.server, "/live/"+path), strings.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return wrong, broker.ID{}, err
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	answer, err := k.http.Do(r)
	if err != nil {
		return unknown, broker.ID{}, nil
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return unknown, broker.ID{}, nil
	}
	var doc struct{ ID, Outcome string }
	_ = json.Unmarshal(said, &doc)
	id, _ := broker.ParseID(doc.ID)
	switch {
	case answer.StatusCode/100 == 2:
		return done, id, nil
	case answer.StatusCode == http.StatusServiceUnavailable && doc.Outcome == "unknown":
		return unknown, id, nil
	case answer.StatusCode == http.StatusServiceUnavailable:
		return refused, id, nil
	}
	return wrong, id, fmt.Errorf("%s %s: %s %s", method, path, answer.Status, said)
}

// keepUp asks for upkeep of the log again and again.
func (k *kills) keepUp(method, path string) {
	for {
		select {
		case <-k.quit:
			return
		case <-time.After(10 * time.Millisecond):
		}
		r, err := http.NewRequest(method, "http://"+k.server.admin+"/evstream/"+path, nil) //nolint:noctx // the client has a timeout
		if err != nil {
			k.t.Error(err)
			return
		}
		answer, err := k.http.Do(r)
		if err != nil {
			continue // it is being killed
		}
		if _, err = io.Copy(io.Discard, answer.Body); err == nil && answer.StatusCode == http.StatusOK {
			k.kept.Add(1)
		}
		_ = answer.Body.Close()
	}
}

// until repeats a request with a key until it is done.
func (k *kills) until(method, path, key, body string) (id broker.ID, err error) {
	for begun := time.Now(); time.Since(begun) < patience; <-time.After(20 * time.Millisecond) {
		became, id, err := k.ask(method, path, key, body)
		if became == done || err != nil {
			return id, err
		}
		k.retried.Add(1)
	}
	return id, fmt.Errorf("%s %s in vain", method, path)
}

// publish publishes events, some of them without a key.
func (k *kills) publish() {
	k.each(float64(k.rate)/float64(k.publishers), func() (err error) {
		s := sent{number: k.numbers.Add(1), channel: channels[rand.N(len(channels))]}
		if s.keyed = s.number%everyKey != 0; s.keyed {
			s.id, err = k.until(http.MethodPost, s.channel, fmt.Sprintf("publish-%d", s.number), text(s.number, s.channel))
		} else {
			s.outcome, s.id, err = k.ask(http.MethodPost, s.channel, "", text(s.number, s.channel))
		}
		if err != nil {
			return err
		}
		if s.outcome == done {
			k.acknowledged.Add(1)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.sent = append(k.sent, s)
		return nil
	})
}

func (k *kills) add(i int) {
	k.each(20, func() error {
		_, err := k.until(http.MethodPatch, stateName(i)+"?incr=1", fmt.Sprintf("add-%d", k.numbers.Add(1)), "")
		if err == nil {
			k.added[i].Add(1)
		}
		return err
	})
}

func (k *kills) set(i int) {
	n := int64(0)
	k.each(20, func() error {
		n++
		_, err := k.until(http.MethodPut, fmt.Sprintf("set/%d", i), "", strconv.FormatInt(n, 10))
		if err == nil {
			k.setTo[i].Store(n)
		}
		return err
	})
}

// survivor is a reader that comes back after each kill, with its last event id.
type survivor struct {
	names []string
	open  chan struct{}
	begun sync.Once

	mu     sync.Mutex
	got    []record
	faults []string
}

func (k *kills) subscribe() {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	k.t.Cleanup(func() { cancel(); wg.Wait() })
	for i := range k.subscribers {
		s := &survivor{names: []string{"west/*"}, open: make(chan struct{})}
		if i%15 != 0 {
			s.names = nil
			for _, n := range rand.Perm(len(channels))[:1+rand.N(3)] {
				s.names = append(s.names, channels[n])
			}
		}
		k.readers = append(k.readers, s)
		wg.Go(func() {
			s.run(ctx, client, plainH1.url(k.server, "/live/?channel="+strings.Join(s.names, "&channel=")))
		})
	}
	for _, s := range k.readers {
		select {
		case <-s.open:
		case <-time.After(patience):
			k.t.Fatal("a reader waits in vain")
		}
	}
}

func (s *survivor) run(ctx context.Context, client *http.Client, url string) {
	for last := ""; ctx.Err() == nil; {
		last = s.once(ctx, client, url, last)
		select {
		case <-ctx.Done():
		case <-time.After(10*time.Millisecond + rand.N(50*time.Millisecond)):
		}
	}
}

// once reads one stream to its end, and returns the last event id.
func (s *survivor) once(ctx context.Context, client *http.Client, url, last string) string {
	var header []string
	if last != "" {
		header = []string{"Last-Event-ID", last}
	}
	r, err := connect(ctx, client, url, header...)
	if err != nil {
		return last
	}
	defer r.response.Body.Close()
	if status := r.response.StatusCode; status != http.StatusOK {
		s.take(record{}, fmt.Sprintf("a stream begins with %d", status))
		return last
	}
	for {
		e, err := r.events.Next()
		if id := r.events.LastEventID(); id != "" {
			last = id
		}
		switch {
		case err != nil:
			return last
		case e.Type == "evstream.open":
			s.begun.Do(func() { close(s.open) })
		case e.Type == "evstream.gap":
			s.take(record{}, fmt.Sprintf("a gap: %s", e.Data))
		case !hubs(e.Type):
			id, _ := broker.ParseID(e.ID)
			s.take(record{id: id, sum: digest(e.Data)}, "")
		}
	}
}

func (s *survivor) take(r record, fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault != "" {
		s.faults = append(s.faults, fault)
		return
	}
	s.got = append(s.got, r)
}

// check compares what was acknowledged, and what readers got, with what the log has.
func (k *kills) check() {
	t := k.t
	last, err := k.until(http.MethodPost, channels[0], "the-last-one", text(k.numbers.Add(1), channels[0]))
	if err != nil {
		t.Fatal(err)
	}
	all := k.log(last)
	byNumber, err := all.byNumber()
	if err != nil {
		t.Error(err)
	}
	missing := 0
	for _, s := range k.sent {
		switch e, has := byNumber[s.number]; {
		case !has && s.outcome == done:
			missing++
		case has && s.outcome == done && (e.id != s.id || e.channel != s.channel):
			t.Errorf("%d was acknowledged as %s of %s, and is %s", s.number, s.id, s.channel, e)
		case has && s.outcome == refused:
			t.Errorf("%s was refused", e)
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged events are missing", missing, len(k.sent))
	}
	for i := range k.added {
		if v := k.value(stateName(i)); v != k.added[i].Load() {
			t.Errorf("%s was incremented %d times, and is %d", stateName(i), k.added[i].Load(), v)
		}
	}
	for _, s := range k.readers {
		want := all.of(s.names...)
		eventually(t, "a reader has got everything", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(want) == 0 || len(s.got) > 0 && !want[len(want)-1].id.After(s.got[len(s.got)-1].id)
		})
		s.mu.Lock()
		if len(s.faults) > 0 {
			t.Errorf("a reader of %v: %v", s.names, s.faults)
		}
		if !slices.EqualFunc(s.got, want, func(r record, e entry) bool { return r.id == e.id && r.sum == e.sum }) {
			t.Errorf("a reader of %v got %d events, and the log has %d, or another order", s.names, len(s.got), len(want))
		}
		s.mu.Unlock()
	}
	t.Logf("%d kills: %d events acknowledged, %d in the log, %d requests repeated, %d readers, %d compactions and backups", k.times, k.acknowledged.Load(), len(all), k.retried.Load(), len(k.readers), k.kept.Load())
	if k.kept.Load() == 0 {
		t.Error("nothing was compacted or backed up")
	}
}

// log reads all events of the log up to one.
func (k *kills) log(last broker.ID) (all truth) {
	t := k.t
	r := open(t, plainH1.client(t), plainH1.url(k.server, "/live/?since=earliest&envelope=1&channel="+strings.Join(channels, "&channel=")))
	for {
		e := r.must(t)
		var in struct{ Ch, Data string }
		if err := json.Unmarshal(e.Data, &in); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(in.Data, " ")
		number, err := strconv.ParseInt(first, 10, 64)
		id, ok := broker.ParseID(e.ID)
		if err != nil || !ok || in.Data != text(number, in.Ch) {
			t.Fatal(errors.Join(err, fmt.Errorf("the log has %s %q, which nobody has published", e.ID, e.Data)))
		}
		all = append(all, entry{id: id, channel: in.Ch, number: number, sum: digest([]byte(in.Data))})
		if id == last {
			return all
		}
	}
}
