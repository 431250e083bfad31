package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What is checked after a fault.

// row is the report on a fault.
type row struct {
	entries, lost int // events that Redis has, and had
	flow          ledger
	rate          float64 // requests that were done, a second
	subscribers   verdict
	turned        int           // streams that were refused
	noticed       time.Duration // after the beginning of the fault
	recovered     time.Duration // after its end
	quiet         time.Duration // the longest time without a byte on a stream
}

// columns is the header for String.
const columns = "fault                      events  acked/s  lost  came silent  gaps  again | refused unknown worst | noticed recovered quiet turned"

func (r *row) String() string {
	gaps := 0
	for _, n := range r.subscribers.gaps {
		gaps += n
	}
	return fmt.Sprintf("%7d  %7.0f %5d %5d %6d %5d %6d | %7d %7d %4.1fs | %6.1fs %8.1fs %4.1fs %6d", r.entries, r.rate,
		r.lost, r.subscribers.void, r.subscribers.silent, gaps, r.subscribers.repeated, r.flow.refused, r.flow.unknown, r.flow.worst.Seconds(),
		r.noticed.Seconds(), r.recovered.Seconds(), r.quiet.Seconds(), r.turned)
}

// check compares what all readers have got since the last check with what Redis
// has. All writers have stopped.
func (c *cluster) check(t *testing.T, f fault, fl *flow) *row {
	t.Helper()
	truth := c.truth(t, c.since)
	if f.kept != nil {
		truth = truth.merge(*f.kept)
	}
	r := &row{entries: len(truth)}
	c.checkWrites(t, f, fl, truth, r)
	r.rate = float64(r.flow.acknowledged) / fl.lasted.Seconds()
	c.checkReaders(t, f, truth, r)
	c.checkCounts(t, f, r)
	if len(truth) > 0 {
		c.since = truth[len(truth)-1].id
	}
	return r
}

// checkWrites compares the answers to the writers with what Redis has.
func (c *cluster) checkWrites(t *testing.T, f fault, fl *flow, truth truth, r *row) {
	t.Helper()
	has, err := truth.byNumber()
	if err != nil {
		t.Error(err)
	}
	sum := &r.flow
	sum.added = map[string]int{}
	for _, l := range fl.ledgers {
		sum.acknowledged += l.acknowledged
		sum.refused += l.refused
		sum.unknown += l.unknown
		sum.worst = max(sum.worst, l.worst)
		sum.wrong = append(sum.wrong, l.wrong...)
		for name, n := range l.added {
			sum.added[name] += n
		}
		for _, s := range l.sent {
			e, there := has[s.number]
			switch {
			case s.outcome == refused && !s.keyed && there:
				t.Errorf("%s was refused", e)
			case s.outcome == done && !there:
				r.lost++
				if !f.loses {
					t.Errorf("%d in %s was acknowledged with %s, and is not in Redis", s.number, s.channel, s.id)
				}
			case s.outcome == done && e.id != s.id && !f.loses:
				t.Errorf("%s was acknowledged with %s", e, s.id)
			}
		}
	}
	for _, say := range sum.wrong[:min(len(sum.wrong), 5)] {
		t.Errorf("one of %d wrong answers: %s", len(sum.wrong), say)
	}
	if f.shows != nil && !f.shows(fl) {
		t.Errorf("nobody noticed the fault: %d refused, %d unknown, the slowest answer after %s", sum.refused, sum.unknown, sum.worst)
	}
}

// checkReaders waits until every subscriber has the newest event, and compares.
func (c *cluster) checkReaders(t *testing.T, f fault, truth truth, r *row) {
	t.Helper()
	r.subscribers.gaps = map[string]int{}
	failed, deadline := 0, time.Now().Add(patience)
	for i, s := range c.subscribers {
		want := truth.of(s.names...)
		late := !within(time.Until(deadline), func() bool {
			// A subscriber that came to a node after the gap has missed nothing.
			return (len(want) == 0 || s.has(want[len(want)-1].id)) && (!f.told || s.roams || s.wasTold())
		})
		s.mu.Lock()
		v, err := judge(s.got, want, c.since)
		if late && err == nil {
			err = errors.New("what came last is not what Redis has, or it was told of no gap")
		}
		if len(s.faults) > 0 && err == nil {
			err = fmt.Errorf("%d times: %s", len(s.faults), s.faults[0])
		}
		for reason, n := range v.gaps {
			r.subscribers.gaps[reason] += n
			if !slices.Contains(f.gaps, reason) && err == nil {
				err = fmt.Errorf("it was told of a gap %q", reason)
			}
		}
		// A subscriber that moves from a node that does not know yet of a loss to one
		// that has lost nothing is told of no gap.
		if v.silent > 0 && !s.roams && err == nil {
			err = fmt.Errorf("%d events that Redis lost did not come, and there was no gap", v.silent)
		}
		r.subscribers.silent += v.silent
		r.subscribers.void += v.void
		r.subscribers.repeated += v.repeated
		r.turned += s.turned
		if err != nil {
			if failed++; failed <= 5 {
				t.Errorf("subscriber %d of %v at node %d, roams: %t: %v\n%s", i, s.names, s.node, s.roams, err, c.around(s.got))
			}
		}
		s.got, s.faults, s.turned = nil, nil, 0
		s.mu.Unlock()
	}
	if failed > 0 {
		t.Errorf("%d of %d subscribers have not got what they must", failed, len(c.subscribers))
	}
}

// around shows the records around the gaps of a subscriber.
func (c *cluster) around(got []record) string {
	var b strings.Builder
	for i, r := range got {
		if r.gap != "" {
			fmt.Fprintf(&b, "  record %d of %d: a gap %q after %v\n", i, len(got), r.gap, got[max(0, i-2):i])
		}
	}
	return b.String()
}

// checkCounts compares the values at all nodes with each other, with Redis and with
// the answers to the writers.
func (c *cluster) checkCounts(t *testing.T, f fault, r *row) {
	t.Helper()
	for _, w := range c.watchers {
		if n := w.wentBack(); n > 0 && !f.loses {
			t.Errorf("a reader was told %d times that a count went back", n)
		}
	}
	deadline := time.Now().Add(deliversWithin)
	for i := range someStates {
		name := stateName(i)
		settles := time.Duration(0) // what was acknowledged is readable at once
		if f.loses {
			settles = time.Until(deadline)
		}
		value := c.agree(t, c.nodes, name, settles)
		before := c.counts[name]
		c.counts[name] = value
		if want := before + r.flow.added[name]; value != want && !f.loses {
			t.Errorf("%s is %d: it was %d, and was incremented %d times", name, value, before, r.flow.added[name])
		}
		for node, w := range c.watchers {
			told := strconv.Itoa(value)
			if !within(time.Until(deadline), func() bool { return w.value(name) == told || value == 0 && w.value(name) == "" }) {
				t.Errorf("a reader at node %d was told that %s is %q, not %s", node, name, w.value(name), told)
			}
		}
	}
}

// agree waits until nodes and Redis have the same value, and returns it; 0 if there
// is none.
func (c *cluster) agree(t *testing.T, nodes []*server, name string, patience time.Duration) (n int) {
	t.Helper()
	var err error
	if !within(patience, func() bool {
		n, err = c.same(t, nodes, name)
		return err == nil
	}) {
		t.Error(err)
	}
	return n
}

func (c *cluster) same(t *testing.T, nodes []*server, name string) (int, error) {
	stored, err := c.redis.HMGet(t.Context(), "{"+prefix+"}:value", name).Result()
	if err != nil {
		return 0, err
	}
	want, _ := stored[0].(string)
	var tags []string
	for i, s := range nodes {
		value, tag, err := valueAt(s, name, "no-cache")
		if err != nil {
			return 0, fmt.Errorf("%s at node %d: %w", name, i, err)
		}
		if value != want {
			return 0, fmt.Errorf("%s is %q at node %d, and %q in Redis", name, value, i, want)
		}
		tags = append(tags, tag)
	}
	if len(slices.Compact(slices.Clone(tags))) != 1 {
		return 0, fmt.Errorf("%s has the tags %v at the nodes", name, tags)
	}
	n, _ := strconv.Atoi(want)
	return n, nil
}

// valueAt reads a value, "" if there is none.
func valueAt(s *server, name, cacheControl string) (value, tag string, err error) {
	answer, err := askValue(s, name, cacheControl)
	if err != nil {
		return "", "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if answer.StatusCode == http.StatusNotFound {
		return "", "", err
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return strings.TrimSpace(string(body)), answer.Header.Get("ETag"), err
}

// values is the client that reads values.
var values = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func askValue(s *server, name, cacheControl string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, plainH1.url(s, "/live/"+name), nil) //nolint:noctx // the client has a timeout
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	if cacheControl != "" {
		r.Header.Set("Cache-Control", cacheControl)
	}
	return values.Do(r)
}

// stale is the staleness that a node reports of its values, "" if they are not
// stale.
func stale(s *server) (string, error) {
	answer, err := askValue(s, stateName(0), "")
	if err != nil {
		return "", err
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound {
		return "", fmt.Errorf("reading a value: %s", answer.Status)
	}
	return answer.Header.Get("Evstream-Stale"), nil
}

// noticed returns how long it takes from begun until nodes report that they may be
// behind. They must refuse then to read the newest value.
func (c *cluster) noticed(t *testing.T, nodes []int, begun time.Time) time.Duration {
	t.Helper()
	took := make([]time.Duration, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			s := c.nodes[node]
			said := within(patience, func() bool {
				old, err := stale(s)
				if err != nil {
					t.Error(err)
				}
				return old != ""
			})
			if took[i] = time.Since(begun); !said || took[i] > deliversWithin {
				t.Errorf("node %d notices after %s: %t", node, took[i], said)
			}
			asked := time.Now()
			answer, err := askValue(s, stateName(0), "no-cache")
			if err != nil {
				t.Error(err)
				return
			}
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || time.Since(asked) > answersWithin {
				t.Errorf("node %d, out of reach of Redis, is asked for what is new, and says %s after %s, %v",
					node, answer.Status, time.Since(asked), answer.Header)
			}
		})
	}
	wg.Wait()
	if len(took) == 0 {
		return 0
	}
	return slices.Max(took)
}

// upToDate waits until a node no longer reports that it may be behind.
func (c *cluster) upToDate(node int, deadline time.Time) bool {
	for {
		if old, err := stale(c.nodes[node]); err == nil && old == "" {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(5 * time.Millisecond)
	}
}

// within waits for ok, at most for that long.
func within(d time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(d); !ok(); {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(10 * time.Millisecond)
	}
	return true
}
