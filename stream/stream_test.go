package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

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
		}
		if s.status != 200 || !equalHeaders(s.header, want) {
			t.Errorf("%d %v, want 200 %v", s.status, s.header, want)
		}
	})
	bubble(t, "no opening event", func(t *testing.T) {
		serve(t, Options{NoOpen: true}).expect(t, ": evstream\n\nretry: N\n\n")
	})
	bubble(t, "padding", func(t *testing.T) {
		serve(t, Options{Padding: true}).expect(t, ": evstream"+strings.Repeat(" ", 2048)+strings.TrimPrefix(opened, ": evstream"))
	})
	bubble(t, "bad cursor", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Start.LastEventID = "nonsense"
		const cursorless = ": evstream\n\nevent: evstream.open\nretry: N\n" +
			"data: {\"session\":\"S\",\"channels\":[\"a\"],\"last_event_id\":\"\"}\n\n"
		serve(t, o).expect(t, cursorless, "id: ID\nevent: evstream.gap\ndata: {\"reason\":\"unknown\",\"oldest\":null,\"newest\":null}\n\n")
	})
	bubble(t, "bad cursor, no opening event", func(t *testing.T) {
		o := Options{NoOpen: true}
		o.Subscribe.Start.LastEventID = "0-0"
		serve(t, o).expect(t, ": evstream\n\nretry: N\n\n",
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
		s.expect(t, ":\n\n")
		time.Sleep(10 * time.Second)
		s.publish(t, "a", "1")
		s.expect(t, "id: ID\ndata: 1\n\n")
		time.Sleep(14 * time.Second)
		s.expect(t)
		time.Sleep(time.Second)
		s.expect(t, ":\n\n")
	})
	bubble(t, "event", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: time.Second, HeartbeatEvent: true})
		s.take()
		time.Sleep(time.Second)
		s.expect(t, "event: heartbeat\ndata: \n\n")
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
		s.expect(t, "id: ID\nevent: evstream.at\ndata: \n\n")
		time.Sleep(15 * time.Second)
		s.expect(t, ":\n\n")
	})
}

func TestAStreamEnds(t *testing.T) {
	ends := func(name, frame string, reason Reason, o Options, end func(*served)) {
		bubble(t, name, func(t *testing.T) {
			s := serve(t, o)
			s.publish(t, "a", "1")
			synctest.Wait()
			s.take()
			end(s)
			<-s.Done()
			if frame == "" {
				s.expect(t)
			} else {
				s.expect(t, frame)
			}
			if s.Reason() != reason {
				t.Errorf("ended for %q, want %q", s.Reason(), reason)
			}
			if n := s.broker.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
			if err := s.Push(context.Background(), sse.Event{}); err != ErrEnded {
				t.Errorf("Push: %v, want ErrEnded", err)
			}
		})
	}
	ends("End", "id: evstream.end\nevent: end\ndata: \n\n", ReasonEnded, Options{}, func(s *served) { s.End() })
	ends("Close", "retry: N\n\n", ReasonReload, Options{}, func(s *served) { s.Close(ReasonReload) })
	ends("client", "", ReasonClient, Options{}, func(s *served) { s.leave() })
	ends("broker", "retry: N\n\n", ReasonClosed, Options{}, func(s *served) {
		if err := s.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	ends("age", "retry: N\n\n", ReasonAge, Options{MaxAge: time.Second}, func(*served) {})
	ends("drain", "retry: N\n\n", ReasonShutdown, Options{}, func(s *served) {
		begun := time.Now()
		s.Drain(5*time.Second, ReasonShutdown)
		<-s.Done()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("drained after %s", took)
		}
	})
	ends("sooner than planned", "id: evstream.end\nevent: end\ndata: \n\n", ReasonEnded, Options{}, func(s *served) {
		s.Drain(time.Hour, ReasonShutdown)
		s.End()
		s.Drain(time.Hour, ReasonShutdown)
	})
	ends("with a cursor that has moved", "id: ID\nevent: evstream.at\nretry: N\ndata: \n\n", ReasonReload, Options{}, func(s *served) {
		s.publish(t, "other", "1")
		s.Close(ReasonReload)
	})
}

func TestAStreamEndsWithItsCredentialAndSaysSoBefore(t *testing.T) {
	for _, tt := range []struct {
		name           string
		expires, warns time.Duration
		maxAge         time.Duration
		reason         Reason
	}{
		{"long", time.Minute, 30 * time.Second, 0, ReasonExpired},
		{"short", 4 * time.Second, 2 * time.Second, 0, ReasonExpired},
		{"past already", -time.Second, 0, 0, ReasonExpired},
		{"later than its age", time.Hour, 0, time.Second, ReasonAge},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			begun := time.Now()
			s := serve(t, Options{Heartbeat: -1, MaxAge: tt.maxAge, Expires: begun.Add(tt.expires)})
			s.take()
			if tt.warns > 0 {
				time.Sleep(tt.warns - time.Millisecond)
				s.expect(t)
				time.Sleep(time.Millisecond)
				at := begun.Add(tt.expires).UTC().Format(time.RFC3339)
				s.expect(t, "event: evstream.expiring\ndata: {\"expires\":\""+at+"\"}\n\n")
			}
			<-s.Done()
			if s.Reason() != tt.reason {
				t.Errorf("ended for %q, want %q", s.Reason(), tt.reason)
			}
			if lasted := time.Since(begun); lasted > max(tt.expires, tt.maxAge, 0) && tt.reason == ReasonExpired || lasted > tt.maxAge && tt.reason == ReasonAge {
				t.Errorf("lasted %s", lasted)
			}
		})
	}
}

// setBack returns what time.Now would have returned with the wall clock set back:
// the monotonic clock, which measures durations, stays.
func setBack(now time.Time, by time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&now)) // seconds above 30 bits of nanoseconds
	*wall -= uint64(by/time.Second) << 30
	return now
}

// A credential expires by the wall clock, which may have been set since the
// Server was made.
func TestAStreamEndsWithItsCredentialThoughTheClockWasSet(t *testing.T) {
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			server := NewServer(b)
			defer server.Close()
			was := server.began
			server.began = setBack(was, by)
			if server.began.Sub(was) != 0 || !server.began.Round(0).Equal(was.Add(-by).Round(0)) {
				t.Fatalf("the server began at %s, not at %s", server.began, was)
			}
			expires := time.Now().Add(5 * time.Minute).Truncate(time.Second)
			s, err := server.Session(Options{
				Subscribe: broker.SubscribeOptions{Channels: []string{"a"}},
				Expires:   expires,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(ReasonClient)
			if off := server.now() + time.Until(expires) - s.state.endAt; off.Abs() > time.Second || s.state.endReason != ReasonExpired {
				t.Errorf("it ends %s too early, for %q", off, s.state.endReason)
			}
			var frames []byte
			for frames == nil || strings.Contains(string(frames), "evstream.open") {
				frames, _ = s.next(new(broker.Batch), s.state.warnAt)
			}
			if want := "event: evstream.expiring\ndata: {\"expires\":\"" + expires.UTC().Format(time.RFC3339) + "\"}\n\n"; string(frames) != want {
				t.Errorf("told %q, want %q", frames, want)
			}
		})
	}
}

// An expiry later than an instant can be must not overflow.
func TestACredentialMayExpireInTheFarFuture(t *testing.T) {
	for _, expires := range []time.Time{time.Now().AddDate(290, 0, 0), time.Now().AddDate(5000, 0, 0)} {
		var p streamState
		p.planEnd(&Options{Expires: expires}, time.Since(time.Now().AddDate(-5, 0, 0)))
		if p.endAt < 280*365*24*time.Hour || p.warnAt < 280*365*24*time.Hour {
			t.Errorf("one that expires in %d ends in %s", expires.Year(), p.endAt)
		}
	}
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
				want += "id: evstream.end\nevent: end\ndata: \n\n"
			}
			release()
			synctest.Wait()
			if all := strings.Join(s.take(), ""); all != want {
				t.Errorf("flushed %q, want %q", all, want)
			}
		})
	}
}

func TestNeverServedSessionsLetGo(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		other, err := s.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		if err != nil {
			t.Fatal(err)
		}
		other.Close(ReasonError)
		<-other.Done()
		if err := other.Serve(s.client, httptest.NewRequest(http.MethodGet, "/", nil)); err != ErrServed {
			t.Errorf("Serve: %v, want ErrServed", err)
		}
		if n := s.broker.Stats().Subscriptions; n != 1 {
			t.Errorf("%d subscriptions, want 1", n)
		}
	})
}

// A stream ends though there is always something new to write.
func TestAStreamEndsWhileItsReaderLags(t *testing.T) {
	for name, end := range map[string]func(*served){
		"refused":  func(s *served) { s.Close(ReasonRefused) },
		"ended":    func(s *served) { s.End() },
		"shutdown": func(s *served) { s.Drain(0, ReasonShutdown) },
		"client":   func(s *served) { s.leave() },
		"max_age":  func(*served) {},
	} {
		bubble(t, name, func(t *testing.T) {
			var o Options
			if name == "max_age" {
				o.MaxAge = time.Second
			}
			s, writes := serve(t, o), 0
			data := strings.Repeat("x", 200<<10)
			s.before(func() { // there is more whenever it has read something
				for range 3 {
					s.publish(t, "a", data)
				}
				time.Sleep(10 * time.Millisecond)
				switch writes++; writes {
				case 30:
					end(s)
				case 1000:
					panic("the stream does not end")
				}
			})
			s.publish(t, "a", "first")
			<-s.Done()
			if s.Reason() != Reason(name) {
				t.Errorf("ended for %q, want %q", s.Reason(), name)
			}
		})
	}
}

// Events that are published once a stream is refused are not written to it.
func TestAStreamThatIsRefusedIsToldNoMore(t *testing.T) {
	for _, reason := range []Reason{ReasonRefused, ReasonRevoked} {
		bubble(t, string(reason), func(t *testing.T) {
			s := serve(t, Options{})
			s.take()
			s.Close(reason)
			s.publish(t, "a", "secret")
			if err := s.Push(t.Context(), sse.Event{Data: []byte("secret, too")}); err != nil && !errors.Is(err, ErrEnded) {
				t.Error(err)
			}
			<-s.Done()
			s.expect(t, "retry: N\n\n")
			if s.Reason() != reason {
				t.Errorf("ended for %q", s.Reason())
			}
		})
	}
	bubble(t, "expired", func(t *testing.T) {
		s := serve(t, Options{Expires: time.Now().Add(10 * time.Millisecond)})
		time.Sleep(5 * time.Millisecond)
		s.take()
		time.Sleep(5 * time.Millisecond)
		s.publish(t, "a", "secret")
		<-s.Done()
		for _, frame := range s.take() {
			if strings.Contains(frame, "secret") {
				t.Errorf("told %q", frame)
			}
		}
	})
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

func TestAServerThatClosesEndsDetachedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		server := NewServer(b)
		o := Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
		told, stalled, idle := detachClient(t, server, o), detachClient(t, server, o), detachClient(t, server, o)
		synctest.Wait()
		for _, s := range []*served{told, stalled, idle} {
			s.take()
		}
		stalled.stall()
		told.Close(ReasonReload)
		stalled.Close(ReasonReload)
		server.Close()
		told.expect(t, "retry: N\n\n")
		stalled.expect(t)
		for _, s := range []*served{told, stalled, idle} {
			select {
			case <-s.Done():
			default:
				t.Error("a stream has not ended")
			}
			if !s.closed {
				t.Error("a connection is open")
			}
		}
		if told.Reason() != ReasonReload || stalled.Reason() != ReasonReload || idle.Reason() != ReasonClosed {
			t.Errorf("ended for %q, %q and %q", told.Reason(), stalled.Reason(), idle.Reason())
		}
		late := detachClient(t, server, o)
		<-late.Done()
		if !late.closed {
			t.Error("a connection that comes late is open")
		}
	})
}
