package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// The readers, and what they have got.

// probe is the channel of the subscribers that check whether a node delivers.
const probe = "probe"

// record is an event or a gap that a subscriber has got.
type record struct {
	id  broker.ID
	sum uint64 // of the data
	gap string // the reason
}

func digest(data []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(data)
	return h.Sum64()
}

// subscriber reads channels, or a pattern, and reconnects when it was cut.
type subscriber struct {
	c      *cluster
	client *http.Client
	names  []string
	roams  bool          // it moves from node to node
	open   chan struct{} // closed when the first stream has begun

	mu     sync.Mutex
	node   int
	got    []record
	begun  bool     // a stream has begun
	turned int      // streams that were refused
	faults []string // what must not happen
	now    *reader  // the stream
	quiet  time.Duration
}

// subscribe starts the subscribers, and waits until all of them read.
func (c *cluster) subscribe(t *testing.T) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		transport.CloseIdleConnections()
	})
	add := func(node int, roams bool, names ...string) *subscriber {
		s := &subscriber{
			c: c, client: &http.Client{Transport: transport}, names: names, roams: roams,
			node: node, open: make(chan struct{}),
		}
		c.subscribers = append(c.subscribers, s)
		wg.Go(func() { s.run(ctx) })
		return s
	}
	for i := range c.scale.subscribers {
		names := []string{"west/*"}
		if i%15 != 0 {
			names = nil
			for _, n := range rand.Perm(len(channels))[:1+rand.N(3)] {
				names = append(names, channels[n])
			}
		}
		add(i%someNodes, i%4 == 0, names...)
	}
	for node := range someNodes {
		c.probes = append(c.probes, add(node, false, probe))
		w := &watcher{url: plainH1.url(c.nodes[node], "/live/count/*"), client: &http.Client{Transport: transport}, values: map[string]string{}}
		c.watchers = append(c.watchers, w)
		wg.Go(func() { w.run(ctx) })
	}
	for _, s := range c.subscribers {
		select {
		case <-s.open:
		case <-time.After(patience):
			t.Fatalf("a subscriber of %v waits in vain: %v", s.names, s.faults)
		}
	}
}

func (s *subscriber) run(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		last = s.once(ctx, last)
		select {
		case <-ctx.Done():
		case <-time.After(20*time.Millisecond + rand.N(100*time.Millisecond)):
		}
		if s.roams {
			s.mu.Lock()
			s.node = (s.node + 1 + rand.N(someNodes-1)) % someNodes
			s.mu.Unlock()
		}
	}
}

// once reads one stream to its end, and returns the last event id.
func (s *subscriber) once(ctx context.Context, last string) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	url := plainH1.url(s.c.nodes[s.node], "/live/?channel="+strings.Join(s.names, "&channel="))
	var header []string
	if last != "" {
		header = []string{"Last-Event-ID", last}
	}
	r, err := connect(ctx, s.client, url, header...)
	if err == nil && r.response.StatusCode != http.StatusOK {
		err = fmt.Errorf("a stream begins with %s", r.response.Status)
	}
	if err != nil {
		s.fault(ctx, err)
		return last
	}
	defer r.response.Body.Close()
	begun := false
	for {
		e, err := r.events.Next()
		if id := r.events.LastEventID(); id != "" {
			last = id
		}
		if err != nil {
			s.ended(ctx, begun, err)
			return last
		}
		switch e.Type {
		case "evstream.open":
			begun = true
			s.begins(r)
			if s.roams {
				defer time.AfterFunc(time.Second+rand.N(3*time.Second), cancel).Stop()
			}
		case "evstream.at":
		case "evstream.gap":
			var gap struct{ Reason string }
			if err := json.Unmarshal(e.Data, &gap); err != nil || gap.Reason == "" {
				s.fault(ctx, fmt.Errorf("a gap says %q", e.Data))
			}
			s.take(record{gap: gap.Reason})
		default:
			id, ok := broker.ParseID(e.ID)
			if !ok {
				s.fault(ctx, fmt.Errorf("an event has the id %q: %q", e.ID, e.Data))
			}
			s.take(record{id: id, sum: digest(e.Data)})
		}
	}
}

func (s *subscriber) begins(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		close(s.open)
	}
	s.begun, s.now = true, r
}

func (s *subscriber) ended(ctx context.Context, begun bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		s.quiet = max(s.quiet, s.now.raw.silence())
		s.now = nil
	}
	switch {
	case ctx.Err() != nil: // the subscriber has ended it
	case begun:
		s.faults = append(s.faults, fmt.Sprintf("a stream ended: %v", err))
	default:
		s.turned++
	}
}

func (s *subscriber) fault(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err.Error())
}

func (s *subscriber) take(r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
}

// has reports whether an event has come.
func (s *subscriber) has(id broker.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.got) {
		if r.id == id {
			return true
		}
	}
	return false
}

// wasTold reports whether a gap has come.
func (s *subscriber) wasTold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.got, func(r record) bool { return r.gap != "" })
}

// arrived waits until all probes have got an event.
func (c *cluster) arrived(id broker.ID, deadline time.Time) bool {
	for _, s := range c.probes {
		for !s.has(id) {
			if time.Now().After(deadline) {
				return false
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	return true
}

// longestQuiet is the longest time without a byte on any stream since the last
// call.
func (c *cluster) longestQuiet() (longest time.Duration) {
	for _, s := range c.subscribers {
		s.mu.Lock()
		if s.now != nil {
			s.quiet = max(s.quiet, s.now.raw.silence())
		}
		longest, s.quiet = max(longest, s.quiet), 0
		s.mu.Unlock()
	}
	return longest
}

// watcher reads all values at one node.
type watcher struct {
	url    string
	client *http.Client

	mu     sync.Mutex
	values map[string]string
	back   int // how often a count went back
}

func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.once(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// once reads one stream to its end.
func (w *watcher) once(ctx context.Context) {
	r, err := connect(ctx, w.client, w.url)
	if err != nil {
		return
	}
	defer r.response.Body.Close()
	for {
		e, err := r.events.Next()
		if err != nil {
			return
		}
		if !hubs(e.Type) {
			w.take(e.Type, e.Data)
		}
	}
}

func (w *watcher) take(name string, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var told struct{ Value json.RawMessage }
	if json.Unmarshal(data, &told) != nil || told.Value == nil {
		delete(w.values, name)
		return
	}
	before, _ := strconv.Atoi(w.values[name])
	if n, _ := strconv.Atoi(string(told.Value)); n < before {
		w.back++
	}
	w.values[name] = string(told.Value)
}

// value is the newest value that it was told, "" if there is none.
func (w *watcher) value(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.values[name]
}

// all are the newest values that it was told.
func (w *watcher) all() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.values)
}

// wentBack is how often a count went back since the last call.
func (w *watcher) wentBack() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.back = 0 }()
	return w.back
}
