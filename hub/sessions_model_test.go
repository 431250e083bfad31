package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// The model of sessions that join and leave is a page with one EventSource: it reads the
// channel of its URL, and joins others, through any node, while events are published to
// all of them, through any node. It is cut at any moment, comes back with the last id that
// it saw, and joins again what it wants from there, as docs/http.md says. The events of a
// channel are numbered. A page must get each channel's events in order, each once and none
// left out, from where it joined to where it left, whatever happened in between; and none
// but between evstream.joined and evstream.left.

var sessionChannels = []string{"a", "b", "c/1", "c/2"}

type sessionModel struct {
	t     *testing.T
	nodes []*Hub
	urls  []string
	room  chan struct{} // each lets one event be published

	mu        sync.Mutex
	published map[string]int
	cuts      int
	joins     int
	ends      int
}

// track is what a page knows of a channel that it wants.
type track struct {
	start   broker.Start // to join again from
	known   int          // the number of the last event before start; 0 if that is not known
	joined  string       // the cursor when it was joined: nothing is known to have come since
	next    int          // the number of the next event; 0 if any may be it
	in      bool         // evstream.joined was read in this session
	asked   string       // the session that was asked to join it
	leaving bool
}

type page struct {
	*sessionModel
	name   string
	user   *access.Caller
	cut    context.CancelFunc
	mu     sync.Mutex
	id     string // of its session, "" while there is none
	last   string
	base   int // the next event of its own channel
	tracks map[string]*track
	ended  bool   // its session was ended
	ending string // the session that was asked to end, which the page may not have heard yet
}

func (m *sessionModel) anyNode() *Hub { return m.nodes[rand.IntN(len(m.nodes))] }

// handler serves the streams of a node.
func (m *sessionModel) handler(h *Hub) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := &access.Caller{User: r.URL.Query().Get("user")}
		s := &Session{Address: "127.0.0.1"}
		o := stream.Options{Subscribe: subscription("base"), Heartbeat: 50 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: time.Millisecond}
		o.Subscribe.Start.LastEventID = r.Header.Get("Last-Event-ID")
		if err := h.Broker().Reach(r.Context(), o.Subscribe.Start); err != nil {
			return // the page has gone
		}
		o.OnEnd = func() { h.Remove(s) }
		var err error
		if s.Stream, err = h.NewStream(o); err != nil {
			m.t.Error(err)
			return
		}
		mayRead := func(_ *access.Caller, name string) bool { return !strings.HasPrefix(name, "secret") }
		if err := h.Add(s, Standing{Caller: who.Kept(), MayRead: mayRead}); err != nil {
			m.t.Error(err)
			s.Stream.Close(stream.ReasonError)
			return
		}
		if err := s.Stream.Begin(w, r, nil); err != nil {
			h.Withdraw(s)
			return
		}
		s.Stream.Wait()
	}
}

func (m *sessionModel) publish(name string) {
	m.mu.Lock()
	defer m.mu.Unlock() // one at a time, so that they are numbered as the log orders them
	m.published[name]++
	op := broker.Op{Kind: broker.KindEvent, Channel: name, Event: sse.Event{Data: fmt.Appendf(nil, "%s %d", name, m.published[name])}}
	if _, err := m.anyNode().Broker().Publish(context.Background(), []broker.Op{op}); err != nil {
		m.t.Error(err)
	}
}

// run connects a page again and again until done is closed.
func (p *page) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		ctx, cancel := context.WithCancel(context.Background())
		p.mu.Lock()
		p.cut = cancel
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.urls[rand.IntN(len(p.urls))]+"/?user="+p.name, nil)
		if p.last != "" {
			r.Header.Set("Last-Event-ID", p.last)
		}
		p.mu.Unlock()
		over := context.AfterFunc(ctx, func() {})
		go func() {
			select {
			case <-done:
				cancel()
			case <-ctx.Done():
			}
		}()
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			d := sse.NewDecoder(resp.Body, 1<<20)
			for {
				e, err := d.Next()
				if err != nil {
					break
				}
				p.take(e, d.LastEventID())
			}
			_ = resp.Body.Close()
		}
		over()
		cancel()
		p.mu.Lock()
		p.id = ""
		if p.ended { // it is another page then
			p.ended, p.last, p.base, p.tracks = false, "", 0, map[string]*track{}
		}
		p.mu.Unlock()
	}
}

// take is what a page does with an event.
func (p *page) take(e sse.Event, last string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last != "" && last != stream.EndID {
		p.last = last
	}
	var data struct {
		Session, Channel string
		Channels         []string
		LastEventID      string `json:"last_event_id"`
	}
	if strings.HasPrefix(e.Type, "evstream.") {
		if err := json.Unmarshal(e.Data, &data); err != nil {
			p.t.Error(err)
		}
	}
	switch tr := p.tracks[data.Channel]; e.Type {
	case "evstream.open":
		p.id = data.Session
		for name, tr := range p.tracks {
			tr.in, tr.asked = false, ""
			if tr.leaving {
				delete(p.tracks, name)
			}
		}
	case "evstream.joined":
		if tr == nil || tr.in || !slices.Contains(data.Channels, data.Channel) {
			p.t.Errorf("%s is told %s, and has %+v", p.name, e.Data, tr)
			return
		}
		tr.in, tr.joined, tr.next = true, data.LastEventID, 0
		if tr.known > 0 {
			tr.next = tr.known + 1
		} else if tr.start == (broker.Start{}) {
			tr.start.LastEventID = data.LastEventID
		}
	case "evstream.left":
		if tr == nil || !tr.in || !tr.leaving || slices.Contains(data.Channels, data.Channel) {
			p.t.Errorf("%s is told %s, and has %+v", p.name, e.Data, tr)
		}
		delete(p.tracks, data.Channel)
	case "evstream.at":
	case "end":
		p.ended = true
	case "evstream.gap":
		p.t.Errorf("%s is told of a gap: %s", p.name, e.Data)
	default:
		p.event(string(e.Data))
	}
	for _, tr := range p.tracks { // an id above that of the join: what was before has come
		if tr.in && p.last != tr.joined {
			tr.start, tr.joined = broker.Start{LastEventID: p.last}, ""
			if tr.next > 0 {
				tr.known = tr.next - 1
			}
		}
	}
}

func (p *page) event(data string) {
	name, number, _ := strings.Cut(data, " ")
	n, _ := strconv.Atoi(number)
	if name == "base" {
		if p.base > 0 && n != p.base {
			p.t.Errorf("%s got event %d of its own channel, not %d", p.name, n, p.base)
		}
		p.base = n + 1
		return
	}
	tr := p.tracks[name]
	if tr == nil || !tr.in || tr.next > 0 && n != tr.next {
		p.t.Errorf("%s got event %d of %s, and has %+v", p.name, n, name, tr)
		return
	}
	tr.next = n + 1
}

// act does something at random.
func (p *page) act() {
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for range rand.IntN(4) * 100 { // most often it waits until it is connected
		p.mu.Lock()
		connected := p.id != ""
		p.mu.Unlock()
		if connected {
			break
		}
		<-looks.C
	}
	p.mu.Lock()
	id, name := p.id, sessionChannels[rand.IntN(len(sessionChannels))]
	tr := p.tracks[name]
	switch n := rand.IntN(20); {
	case n == 0:
		p.cut()
		p.mu.Unlock()
		p.sessionModel.mu.Lock()
		p.cuts++
		p.sessionModel.mu.Unlock()
		return
	case n == 1 && id != "":
		p.ending = id
		p.mu.Unlock()
		if err := p.anyNode().EndSession(context.Background(), id, "", Asker{Caller: p.user}); err == nil {
			p.sessionModel.mu.Lock()
			p.ends++
			p.sessionModel.mu.Unlock()
		} else if !errors.Is(err, broker.ErrNoSession) {
			p.t.Errorf("ending: %v", err)
		}
		return
	case tr == nil && id != "":
		start := []broker.Start{{}, {}, {Last: 3}, {Earliest: true}}[rand.IntN(4)]
		p.tracks[name] = &track{start: start}
	case tr != nil && tr.in && !tr.leaving && n < 10:
		tr.leaving = true
	}
	p.mu.Unlock()
	p.tell()
}

// tell asks the session to join and leave what the page wants.
func (p *page) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id == "" {
		return
	}
	for name, tr := range maps.Clone(p.tracks) {
		id, start := p.id, tr.start
		switch {
		case tr.leaving && tr.in:
			p.mu.Unlock()
			_, _, err := p.anyNode().LeaveSession(context.Background(), id, name, Asker{Caller: p.user})
			p.mu.Lock()
			if err != nil && !errors.Is(err, broker.ErrNoSession) {
				p.t.Errorf("leaving %s: %v", name, err)
			}
		case tr.asked != id && !tr.leaving:
			tr.asked = id
			p.mu.Unlock()
			_, err := p.anyNode().JoinSession(context.Background(), id, name, start, Asker{Caller: p.user})
			p.sessionModel.mu.Lock()
			p.joins++
			p.sessionModel.mu.Unlock()
			p.mu.Lock()
			if err != nil && !errors.Is(err, broker.ErrNoSession) {
				p.t.Errorf("joining %s: %v", name, err)
			}
		}
		if p.id != id {
			return
		}
	}
}

func (m *sessionModel) runModel(pages, steps int) {
	m.published, m.room = map[string]int{}, make(chan struct{}, 8)
	for _, h := range m.nodes {
		server := httptest.NewServer(m.handler(h))
		m.t.Cleanup(server.Close)
		m.urls = append(m.urls, server.URL)
	}
	all := append([]string{"base"}, sessionChannels...)
	done := make(chan struct{})
	var running, acting, publishing sync.WaitGroup
	stop := sync.OnceFunc(func() { close(done) })
	m.t.Cleanup(stop)
	publishing.Go(func() {
		for range m.room {
			m.publish(all[rand.IntN(len(all))])
		}
	})
	var list []*page
	for i := range pages {
		p := &page{sessionModel: m, name: "u" + strconv.Itoa(i), tracks: map[string]*track{}, cut: func() {}}
		p.user = &access.Caller{User: p.name}
		list = append(list, p)
		running.Go(func() { p.run(done) })
		acting.Go(func() {
			for range steps {
				p.act()
				m.room <- struct{}{}
				m.room <- struct{}{}
			}
			// Where pages are connected late, most have done nothing.
			for until := time.Now().Add(patience); !m.enough(pages*steps) && time.Now().Before(until); {
				p.act()
			}
		})
	}
	acting.Wait()
	close(m.room)
	publishing.Wait()
	for _, p := range list { // at rest each has everything
		eventually(m.t, p.name+" to be in all that it wants", func() bool {
			p.tell()
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, tr := range p.tracks {
				if !tr.in || tr.leaving {
					return false
				}
			}
			return p.id != "" && p.id != p.ending
		})
	}
	for _, p := range list {
		p.mu.Lock()
		p.cut()
		p.mu.Unlock()
	}
	for _, name := range all {
		m.publish(name)
	}
	for _, p := range list {
		eventually(m.t, p.name+" to have everything", func() bool {
			p.tell() // a page that had not noticed its last cut joins again
			p.mu.Lock()
			defer p.mu.Unlock()
			for name, tr := range p.tracks {
				if tr.next != m.published[name]+1 {
					return false
				}
			}
			return p.base == m.published["base"]+1
		})
	}
	stop()
	running.Wait()
	m.t.Logf("%v published, %d joins, %d cuts, %d ends", m.published, m.joins, m.cuts, m.ends)
	if !m.enough(pages * steps) {
		m.t.Error("the run did not test much")
	}
}

// enough reports whether a run of so many steps has tested much.
func (m *sessionModel) enough(steps int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joins >= steps/10 && m.cuts >= steps/100 && m.ends >= steps/200
}

func TestPagesThatJoinLeaveAndAreCutGetEachEventOnce(t *testing.T) {
	m := &sessionModel{t: t, nodes: []*Hub{testHub(t, Config{})}}
	m.runModel(6, 150)
}

func TestPagesThatJoinThroughAnyNodeGetEachEventOnce(t *testing.T) {
	server := redistest.Start(t)
	m := &sessionModel{t: t}
	for range 3 {
		m.nodes = append(m.nodes, ticketNode(t, server.Addr()))
	}
	for _, h := range m.nodes {
		eventually(t, "the log to be read", h.cluster.hasSettled)
	}
	m.runModel(4, 60)
}
