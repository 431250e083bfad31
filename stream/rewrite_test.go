package stream

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// rewriter writes events in capitals, or, unless it decodes, adds a comment to them; and what
// it is told to say, whenever it is asked.
type rewriter struct {
	decodes  bool
	every    time.Duration
	beat     string
	interval bool

	mu   sync.Mutex // guards what follows
	says string
	over bool
	most int // events at once
}

func (r *rewriter) Decodes() bool { return r.decodes }

func (r *rewriter) Rewrite(dst []byte, events []broker.Delivery) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = max(r.most, len(events))
	dst = append(dst, r.says...)
	r.says = ""
	for i := range events {
		if e := &events[i]; string(e.Event.Data) != "nothing" {
			dst = append(dst, "data: "+e.Channel+" "+strings.ToUpper(string(e.Event.Data))+"\n\n"...)
		}
	}
	return dst, r.over
}

func (r *rewriter) Heartbeat() (time.Duration, []byte, bool) {
	if r.beat == "" {
		return r.every, nil, r.interval
	}
	return r.every, []byte(r.beat), r.interval
}

// say has the stream write text, and end if that is so.
func (r *rewriter) say(s *served, text string, over bool) {
	r.mu.Lock()
	r.says, r.over = text, over
	r.mu.Unlock()
	s.Wake()
}

func rewritten(r *rewriter) Options {
	return Options{Raw: true, Opening: []byte(":hello\n\n"), Rewriter: r, Heartbeat: time.Hour}
}

// What a Rewriter makes of events is what the client gets, in order, and is counted as
// delivered; what it says is written when the stream is woken, and it can end the stream.
func TestARewriterSaysWhatTheClientGets(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := &rewriter{decodes: true}
		s := serve(t, rewritten(r))
		s.expect(t, ":hello\n\n")
		s.publish(t, "a", "one")
		s.expect(t, "data: a ONE\n\n")
		s.publish(t, "a", "nothing")
		s.expect(t)
		r.say(s, "data: said\n\n", false)
		s.expect(t, "data: said\n\n")
		release := s.hold()
		s.publish(t, "a", "two")
		s.publish(t, "a", "three")
		release()
		s.expectAll(t, "data: a TWO\n\ndata: a THREE\n\n")
		if n := s.Delivered(); n != 3 {
			t.Errorf("%d events are delivered, want 3", n)
		}
		r.say(s, "data: bye\n\n", true)
		s.expectAll(t, "data: bye\n\n")
		<-s.Done()
	})
}

// expectAll is expect, in however many writes.
func (s *served) expectAll(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := strings.Join(s.take(), ""); got != want && got != want+":\n" {
		t.Errorf("flushed\n%q\nwant\n%q", got, want)
	}
}

// Without decoding the events are those of the history, and the Rewriter is asked for what
// it says all the same.
func TestARewriterThatDecodesNothingGetsNoEvents(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := &rewriter{}
		o := rewritten(r)
		o.Subscribe.OwnIDs = true
		s := serve(t, o)
		s.expect(t, ":hello\n\n")
		s.publish(t, "a", "one")
		s.expect(t, "data: one\n\n")
		r.say(s, ":said\n\n", true)
		s.expectAll(t, ":said\n\n")
		<-s.Done()
		if r.most != 0 {
			t.Errorf("it got %d events", r.most)
		}
	})
}

// However many events wait, a Rewriter gets few at once: what it makes of them is held until
// the client has taken it.
func TestARewriterGetsFewEventsAtOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := &rewriter{decodes: true}
		s := serve(t, rewritten(r))
		s.take()
		release := s.hold()
		var want strings.Builder
		for range 3 * maxRewritten {
			s.publish(t, "a", "x")
			want.WriteString("data: a X\n\n")
		}
		release()
		s.expectAll(t, want.String())
		if r.most > maxRewritten || s.Delivered() != 3*maxRewritten {
			t.Errorf("it got %d events at once, and %d are delivered", r.most, s.Delivered())
		}
	})
}

// The heartbeat is the Rewriter's. Events put it off, unless it is said to come at an
// interval.
func TestTheHeartbeatIsTheRewriters(t *testing.T) {
	for name, interval := range map[string]bool{"idle": false, "interval": true} {
		bubble(t, name, func(t *testing.T) {
			r := &rewriter{decodes: true, every: 10 * time.Second, beat: ":beat\n", interval: interval}
			s := serve(t, rewritten(r))
			s.take()
			time.Sleep(7 * time.Second)
			s.publish(t, "a", "one")
			s.expect(t, "data: a ONE\n\n")
			time.Sleep(5 * time.Second) // 12s after the beginning
			if interval {
				s.expect(t, ":beat\n")
			} else {
				s.expect(t)
			}
			time.Sleep(7 * time.Second)
			if interval {
				s.expect(t)
			} else {
				s.expect(t, ":beat\n")
			}
		})
	}
	bubble(t, "never", func(t *testing.T) {
		s := serve(t, rewritten(&rewriter{decodes: true}))
		s.take()
		time.Sleep(24 * time.Hour)
		s.expect(t)
	})
	bubble(t, "usual", func(t *testing.T) {
		s := serve(t, rewritten(&rewriter{every: time.Minute}))
		s.take()
		time.Sleep(90 * time.Second)
		s.expect(t, ":\n")
	})
}
