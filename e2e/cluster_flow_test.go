package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// The writers, and what the nodes have answered.

const (
	someStates  = 20
	someWriters = 500 // that publish, at most
	someAdders  = 8   // that increment
	everyKey    = 4   // every fourth publish has no idempotency key
)

// channels are the channels of the writers. Those of west have another history
// policy, and so another stream in Redis.
var channels = func() (names []string) {
	for i := range 10 {
		names = append(names, fmt.Sprintf("east/%d", i), fmt.Sprintf("west/%d", i), fmt.Sprintf("north.%d", i))
	}
	return names
}()

func stateName(i int) string { return fmt.Sprintf("count/%d", i) }

// manyRequests makes a client for many short requests at a time.
func manyRequests(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: someWriters + someAdders, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// text is the data of a numbered event, about 100 bytes.
func text(number int64, channel string) string {
	return fmt.Sprintf("%d %s %s", number, channel, padding[:90-len(channel)])
}

var padding = strings.Repeat(".", 90)

// outcome is what has become of a request of a writer.
type outcome uint8

const (
	done    outcome = iota
	refused         // it was not done
	unknown         // it may have been
	wrong           // the answer is none that is allowed
)

// answer is the answer to a writer.
type answer struct {
	outcome outcome
	id      broker.ID
	took    time.Duration
	say     string // for messages
}

// ask sends the request of a writer.
func (c *cluster) ask(method string, node int, path, key, body string) (a answer) {
	r, err := http.NewRequest(method, "http://"+c.nodes[node].plain+"/live/"+path, strings.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return answer{outcome: wrong, say: err.Error()}
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	begun := time.Now()
	response, err := c.http.Do(r)
	if err != nil {
		return answer{outcome: wrong, say: err.Error()}
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	a.took = time.Since(begun)
	a.say = fmt.Sprintf("%s %s at node %d: %s %s", method, path, node, response.Status, said)
	var doc struct{ ID, Outcome string }
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated:
		if method == http.MethodPost {
			err = json.Unmarshal(said, &doc)
			a.id, _ = broker.ParseID(doc.ID)
		}
	case http.StatusServiceUnavailable:
		err = json.Unmarshal(said, &doc)
		a.outcome = refused
		if doc.Outcome == "unknown" {
			a.outcome = unknown
		}
		if wait, _ := strconv.Atoi(response.Header.Get("Retry-After")); wait < 1 {
			a.outcome, a.say = wrong, a.say+": and no Retry-After"
		}
	default:
		a.outcome = wrong
	}
	if err != nil {
		a.outcome = wrong
	}
	return a
}

// sent is an event that was published, with the last answer.
type sent struct {
	number  int64
	channel string
	keyed   bool
	outcome outcome
	id      broker.ID
}

// ledger is what one writer has done.
type ledger struct {
	sent  []sent
	added map[string]int // increments that were answered

	acknowledged, refused, unknown int // answers
	worst                          time.Duration
	wrong                          []string
}

func (l *ledger) note(a answer) {
	l.worst = max(l.worst, a.took)
	switch a.outcome {
	case done:
		l.acknowledged++
	case refused:
		l.refused++
	case unknown:
		l.unknown++
	case wrong:
		l.wrong = append(l.wrong, a.say)
	}
	if a.took > answersWithin {
		l.wrong = append(l.wrong, fmt.Sprintf("after %s: %s", a.took, a.say))
	}
}

// flow is all writers, until stop.
type flow struct {
	c       *cluster
	quit    chan struct{}
	wg      sync.WaitGroup
	began   time.Time
	lasted  time.Duration
	ledgers []*ledger
	good    [someNodes]atomic.Int64 // requests that each node has done

	// Of all answers, while they come.
	refused, unknown atomic.Int64
	hesitated        atomic.Bool // one took its time
}

// note counts an answer.
func (f *flow) note(a answer) {
	switch a.outcome {
	case refused:
		f.refused.Add(1)
	case unknown:
		f.unknown.Add(1)
	}
	if a.took > 250*time.Millisecond {
		f.hesitated.Store(true)
	}
}

func (c *cluster) flow(t *testing.T) *flow {
	f := &flow{c: c, quit: make(chan struct{}), began: time.Now()}
	writers := c.scale.rate / 4
	for range writers {
		f.run(time.Second*time.Duration(writers)/time.Duration(c.scale.rate), f.publish)
	}
	for range someAdders {
		f.run(time.Second*someAdders/time.Duration(c.scale.increments), f.add)
	}
	t.Cleanup(f.stop)
	return f
}

// run calls write repeatedly, until quit.
func (f *flow) run(every time.Duration, write func(*ledger)) {
	l := &ledger{added: map[string]int{}}
	f.ledgers = append(f.ledgers, l)
	f.wg.Go(func() {
		next := time.Now().Add(rand.N(every))
		for {
			select {
			case <-f.quit:
				return
			case <-time.After(time.Until(next)):
			}
			write(l)
			// A writer that had to wait does not make up for all of that.
			if next = next.Add(every); time.Since(next) > time.Second {
				next = time.Now()
			}
		}
	})
}

// publish publishes one event. With a key it repeats that at any node, until the
// outcome is known.
func (f *flow) publish(l *ledger) {
	s := sent{number: f.c.numbers.Add(1), channel: channels[rand.N(len(channels))]}
	s.keyed = s.number%everyKey != 0
	key := ""
	if s.keyed {
		key = fmt.Sprintf("publish-%d", s.number)
	}
	f.until(l, s.keyed, func(node int) answer {
		a := f.c.ask(http.MethodPost, node, s.channel, key, text(s.number, s.channel))
		s.outcome, s.id = a.outcome, a.id
		return a
	})
	l.sent = append(l.sent, s)
}

// add increments a value once.
func (f *flow) add(l *ledger) {
	name := stateName(rand.N(someStates))
	key := fmt.Sprintf("add-%d", f.c.numbers.Add(1))
	if f.until(l, true, func(node int) answer { return f.c.ask(http.MethodPatch, node, name+"?incr=1", key, "") }) == done {
		l.added[name]++
	}
}

// until asks nodes at random until one has done it or, without a key, once.
func (f *flow) until(l *ledger, again bool, ask func(node int) answer) outcome {
	for begun := time.Now(); ; {
		node := rand.N(someNodes)
		a := ask(node)
		l.note(a)
		f.note(a)
		switch {
		case a.outcome == done:
			f.good[node].Add(1)
			return done
		case a.outcome == wrong || !again:
			return a.outcome
		case time.Since(begun) > patience+f.c.scale.fault:
			l.wrong = append(l.wrong, "in vain: "+a.say)
			return a.outcome
		}
		<-time.After(100*time.Millisecond + rand.N(200*time.Millisecond))
	}
}

// warm waits until every node executes requests.
func (f *flow) warm(t *testing.T) {
	t.Helper()
	for i := range f.good {
		eventually(t, fmt.Sprintf("node %d does what it is asked for", i), func() bool { return f.good[i].Load() >= 5 })
	}
}

// stop stops the writers, and waits for all answers.
func (f *flow) stop() {
	select {
	case <-f.quit:
		return
	default:
	}
	close(f.quit)
	f.lasted = time.Since(f.began)
	f.wg.Wait()
}

// recovered returns how long it takes from now until every node accepts an event
// and delivers those of all nodes, and none reports that it may be behind.
func (c *cluster) recovered(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	took := make([]time.Duration, someNodes)
	var wg sync.WaitGroup
	for node := range someNodes {
		wg.Go(func() {
			number := c.numbers.Add(1)
			body, key := text(number, probe), fmt.Sprintf("publish-%d", number)
			for time.Since(begun) < patience {
				a := c.ask(http.MethodPost, node, probe, key, body)
				if a.outcome == wrong {
					t.Error(a.say)
				}
				if a.outcome == done && c.arrived(a.id, begun.Add(patience)) && c.upToDate(node, begun.Add(patience)) {
					break
				}
				<-time.After(20 * time.Millisecond)
			}
			took[node] = time.Since(begun)
		})
	}
	wg.Wait()
	worst := max(took[0], took[1], took[2])
	if worst > deliversWithin {
		t.Errorf("the nodes deliver again after %v", took)
	}
	return worst
}
