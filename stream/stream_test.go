package stream

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

func TestAStreamOpensWithACursor(t *testing.T) {
	bubble(t, "plain", func(t *testing.T) {
		s := serve(t, Options{})
		s.expect(t, opened)
		want := http.Header{
			"Content-Type":      {"text/event-stream"},
			"Cache-Control":     {"no-cache, no-store, no-transform"},
			"X-Accel-Buffering": {"no"},
			"Incremental":       {"?1"},
		}
		if s.status != 200 || !equalHeaders(s.header, want) {
			t.Errorf("%d %v, want 200 %v", s.status, s.header, want)
		}
	})
	bubble(t, "no opening event", func(t *testing.T) {
		serve(t, Options{NoOpen: true}).expect(t, ": evstream\nretry: N\n")
	})
	bubble(t, "padding", func(t *testing.T) {
		serve(t, Options{Padding: true}).expect(t, ": evstream"+strings.Repeat(" ", 2048)+strings.TrimPrefix(opened, ": evstream"))
	})
	bubble(t, "bad cursor", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Start.LastEventID = "nonsense"
		const cursorless = ": evstream\nevent: evstream.open\nretry: N\n" +
			"data: {\"session\":\"S\",\"channels\":[\"a\"],\"last_event_id\":\"\",\"values\":[]}\n\n"
		serve(t, o).expect(t, cursorless, "id: ID\nevent: evstream.gap\ndata: {\"reason\":\"unknown\",\"oldest\":null,\"newest\":null}\n\n")
	})
	bubble(t, "bad cursor, no opening event", func(t *testing.T) {
		o := Options{NoOpen: true}
		o.Subscribe.Start.LastEventID = "0-0"
		serve(t, o).expect(t, ": evstream\nretry: N\n",
			"id: ID\nevent: evstream.gap\ndata: {\"reason\":\"restarted\",\"oldest\":null,\"newest\":null}\n\n")
	})
}

func equalHeaders(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !slices.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

func TestWhatIsNewIsOneWriteAndOneFlush(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Channels = []string{"a", "b"}
		s := serve(t, o)
		s.take()
		release := s.hold()
		before := s.writes
		s.publish(t, "a", "1")
		s.publish(t, "b", "2")
		s.publish(t, "a", "3")
		synctest.Wait()
		release()
		synctest.Wait()
		all := strings.Join(s.take(), "")
		if want := "id: ID\ndata: 1\n\nid: ID\ndata: 2\n\nid: ID\ndata: 3\n\n"; all != want {
			t.Errorf("flushed %q, want %q", all, want)
		}
		if writes := s.writes - before; writes > 2 {
			t.Errorf("three events took %d writes", writes)
		}
		if s.Delivered() != 3 {
			t.Errorf("delivered %d, want 3", s.Delivered())
		}
	})
}

func TestAQuietStreamGetsHeartbeats(t *testing.T) {
	bubble(t, "comment", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		time.Sleep(14 * time.Second)
		s.expect(t)
		time.Sleep(time.Second)
		s.expect(t, ":\n")
		time.Sleep(10 * time.Second)
		s.publish(t, "a", "1")
		s.expect(t, "id: ID\ndata: 1\n\n")
		time.Sleep(14 * time.Second)
		s.expect(t)
		time.Sleep(time.Second)
		s.expect(t, ":\n")
	})
	bubble(t, "event", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: time.Second, HeartbeatEvent: true})
		s.take()
		time.Sleep(time.Second)
		s.expect(t, "event: heartbeat\ndata: {}\n\n")
	})
	bubble(t, "off", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: -1})
		s.take()
		time.Sleep(time.Hour)
		s.expect(t)
	})
	bubble(t, "tells a cursor that has moved", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Types = []string{"other"}
		s := serve(t, o)
		s.take()
		s.publish(t, "a", "1")
		s.expect(t)
		time.Sleep(15 * time.Second)
		s.expect(t, "id: ID\nevent: evstream.at\ndata: {}\n\n")
		time.Sleep(15 * time.Second)
		s.expect(t, ":\n")
	})
}

func TestDurationsMayBeAsLongAsTheyLike(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const forever time.Duration = 1<<63 - 1
		beside := serve(t, Options{})
		time.Sleep(time.Second) // since the server began
		o := Options{Heartbeat: forever, RetryMax: forever, WriteTimeout: forever, MaxAge: forever}
		o.Subscribe.Channels = []string{"a"}
		s := beside.another(t, o)
		synctest.Wait()
		s.take()
		s.Drain(forever, ReasonShutdown)
		s.stall()
		s.publish(t, "a", "1")
		time.Sleep(time.Hour)
		s.release()
		s.expect(t, "id: ID\ndata: 1\n\n")
		if n := s.writes; n != 2 {
			t.Errorf("%d writes", n)
		}
		for _, age := range []time.Duration{maxDuration, maxDuration - 1, 15000 * 24 * time.Hour, forever} {
			o := Options{MaxAge: age}
			o.fill()
			var p streamState
			if p.planEnd(&o, 0); p.endAt < min(age, maxDuration)/10*8 || p.endAt > min(age, maxDuration) {
				t.Errorf("of an age of %s the end is after %s", age, p.endAt)
			}
		}
	})
}

func TestAStalledStreamIsCutAndTheRestIsNot(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.stall()
		begun := time.Now()
		s.publish(t, "a", "1")
		<-s.Done()
		if took := time.Since(begun); s.Reason() != ReasonSlow || took < 10*time.Second || took > 12*time.Second {
			t.Errorf("ended for %q after %s, want slow after 10s", s.Reason(), took)
		}
	})
}

func TestASlowReaderIsToldOfTheGap(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{}, func(c *broker.Config) { c.History.Bytes = broker.MinBytes })
		s.take()
		release := s.hold()
		s.publish(t, "a", "first")
		synctest.Wait()
		for range 40 {
			s.publish(t, "a", strings.Repeat("x", 400))
		}
		release()
		synctest.Wait()
		all := strings.Join(s.take(), "")
		before, after, found := strings.Cut(all, "event: evstream.gap\ndata: {\"reason\":\"trimmed\",\"oldest\":\"ID\",\"newest\":\"ID\"}\n\n")
		if !found || !strings.Contains(before, "first") || !strings.Contains(after, "xxx") {
			t.Errorf("flushed %.300q…, want the first event, a gap, and the newest events", all)
		}
	})
}

// The events between the reader and the history are of other types: the gap is
// announced though none of them is for the reader.
func TestASlowReaderOfOneTypeIsToldOfTheGap(t *testing.T) {
	for _, end := range []bool{false, true} {
		bubble(t, fmt.Sprintf("ends=%v", end), func(t *testing.T) {
			o := Options{}
			o.Subscribe.Types = []string{"goal"}
			s := serve(t, o, func(c *broker.Config) { c.History.Bytes = broker.MinBytes })
			s.take()
			release := s.hold()
			publish := func(typ, data string) {
				op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Type: typ, Data: []byte(data)}}
				if _, err := s.broker.Publish(context.Background(), []broker.Op{op}); err != nil {
					t.Fatal(err)
				}
			}
			publish("goal", "first")
			synctest.Wait()
			for range 60 {
				publish("chat", strings.Repeat("x", 400))
			}
			publish("goal", "last")
			want := "id: ID\nevent: goal\ndata: first\n\n" +
				"event: evstream.gap\ndata: {\"reason\":\"trimmed\",\"oldest\":\"ID\",\"newest\":\"ID\"}\n\n" +
				"id: ID\nevent: goal\ndata: last\n\n"
			if end {
				s.End()
				want += "id: evstream.end\nevent: end\ndata: {}\n\n"
			}
			release()
			synctest.Wait()
			if all := strings.Join(s.take(), ""); all != want {
				t.Errorf("flushed %q, want %q", all, want)
			}
		})
	}
}

// A deadline would end an idle HTTP/2 stream, and fail the next request of an
// HTTP/1 connection; setting it costs more than a write.
func TestAStreamThatIsNotStalledHasNoWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, Options{})
		for range 20 {
			s.publish(t, "a", "1")
			time.Sleep(time.Second)
		}
		s.Close(ReasonEnded)
		<-s.Done()
		synctest.Wait()
		if s.deadlines != 1 || !s.deadline.IsZero() {
			t.Errorf("the write deadline was set %d times, to %v at last; want it cleared, once", s.deadlines, s.deadline)
		}
	})
}

// A stream goes on if each of its writes is slow, but none too slow.
func TestTheTimeForAWriteBeginsWithEachWrite(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		for range 5 {
			s.take()
			release := s.hold()
			s.publish(t, "a", "1")
			time.Sleep(9 * time.Second)
			release()
			s.expect(t, "id: ID\ndata: 1\n\n")
		}
	})
}

func TestAbortFailsAStalledStreamAndNoOther(t *testing.T) {
	bubble(t, "stalled", func(t *testing.T) {
		s := serve(t, Options{})
		s.stall()
		s.publish(t, "a", "1")
		synctest.Wait()
		begun := time.Now()
		s.Abort()
		<-s.Done()
		if took := time.Since(begun); s.Reason() != ReasonSlow || took > time.Second {
			t.Errorf("ended for %q after %s", s.Reason(), took)
		}
	})
	bubble(t, "not stalled", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		s.Abort()
		time.Sleep(time.Second)
		s.publish(t, "a", "1")
		s.expect(t, "id: ID\ndata: 1\n\n")
	})
}

// The rest of a batch is written when the client takes it, whatever was written
// to other streams meanwhile.
func TestAStalledStreamGoesOnWhereItStopped(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Channels = []string{"a", "b"}
		s := serve(t, o)
		s.take()
		release := s.hold()
		for _, data := range []string{"1", "2", "3"} {
			s.publish(t, "a", data)
			s.publish(t, "b", data+data)
			synctest.Wait()
		}
		other := s.another(t, o)
		s.publish(t, "a", "4")
		synctest.Wait()
		other.take()
		release()
		synctest.Wait()
		const want = "id: ID\ndata: 1\n\nid: ID\ndata: 11\n\nid: ID\ndata: 2\n\nid: ID\ndata: 22\n\n" +
			"id: ID\ndata: 3\n\nid: ID\ndata: 33\n\nid: ID\ndata: 4\n\n"
		if all := strings.Join(s.take(), ""); all != want {
			t.Errorf("flushed %q, want %q", all, want)
		}
		if s.Delivered() != 7 {
			t.Errorf("delivered %d, want 7", s.Delivered())
		}
	})
}

// The command line takes an id for one.
func TestIDsAreNoFlags(t *testing.T) {
	for range 1000 {
		if id := newID(); id[0] == '-' || !MayBeID(id) {
			t.Fatalf("a session has the id %q", id)
		}
	}
}
