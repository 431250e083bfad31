package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// payloadMark stands for the payload in --body.
const payloadMark = "{payload}"

// publisher publishes events, one after the other, at a rate.
type publisher struct {
	index  int
	run    string
	client *http.Client
	url    string
	header http.Header
	body   string // with payloadMark
	size   int    // of the payload
	every  time.Duration
	offset time.Duration // of its first event

	number  atomic.Uint32 // of the event that comes next
	taken   atomic.Uint64 // events that were published, while something is measured
	unknown atomic.Uint64 // publishes without an answer: the event may be there, or not
	reasons *reasons
	took    *histogram // how long publishing takes, while something is measured
	behind  *histogram // how late it begins
}

// publish publishes until ctx ends. It returns when the last one is answered.
func (p *publisher) publish(ctx context.Context, t *tally) {
	first := time.Now().Add(p.offset)
	timer := newSleeper()
	defer timer.close()
	for i := 0; ; i++ {
		// A publish that begins late keeps the time at which it was to begin: what waits for
		// a slow server counts as delay.
		intended := first.Add(time.Duration(i) * p.every)
		if p.every == 0 {
			intended = time.Now()
		}
		if !timer.until(ctx, intended) {
			return
		}
		began := time.Now()
		number := p.number.Load()
		status, err := p.send(context.WithoutCancel(ctx), marker{p.index, number, intended.Sub(t.begun)})
		if status == 0 || err == nil {
			p.number.Store(number + 1) // one that is refused is not there: its number is the next one's
		}
		measured := t.phase.Load() != nil
		switch {
		case err != nil:
			p.reasons.add(err)
			if status == 0 {
				p.unknown.Add(1)
			}
		case measured:
			p.taken.Add(1)
		}
		if measured {
			p.took.add(time.Since(began))
			p.behind.add(began.Sub(intended))
		}
	}
}

// sleepUntil waits by a timer of the runtime, and returns false if ctx has ended.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// send publishes one event, and returns the status of the answer, 0 if there is none.
func (p *publisher) send(ctx context.Context, m marker) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	payload := appendMarker(make([]byte, 0, p.size), p.run, m)
	payload = append(bytes.Repeat([]byte("x"), max(p.size-len(payload), 0)), payload...)
	body := strings.Replace(p.body, payloadMark, string(payload), 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = p.header
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, fmt.Errorf("publishing is answered %s: %s", resp.Status, clip(string(text)))
	}
	return resp.StatusCode, nil
}

// clip makes text of a server fit for a line of a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "?"))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}

// Reason is why something failed, and how often.
type Reason struct {
	Why   string `json:"why"`
	Count uint64 `json:"count"`
}

// reasons counts errors by their texts. Its methods are safe for concurrent use.
type reasons struct {
	mu     sync.Mutex
	counts map[string]uint64
	total  uint64
}

// maxReasons bounds how many different texts are kept; the others are counted together.
const maxReasons = 10

func (r *reasons) add(err error) {
	// The ports of this machine would make every error another one.
	why := clip(err.Error())
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		why = op.Op + ": " + clip(op.Err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[string]uint64)
	}
	if _, ok := r.counts[why]; !ok && len(r.counts) >= maxReasons {
		why = "other errors"
	}
	r.counts[why]++
	r.total++
}

// list returns the reasons, the most frequent first, and how many errors there were.
func (r *reasons) list() (list []Reason, total uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list = []Reason{}
	for why, n := range r.counts {
		list = append(list, Reason{why, n})
	}
	slices.SortFunc(list, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Why, b.Why))
	})
	return list, r.total
}
