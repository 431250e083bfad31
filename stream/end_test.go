package stream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

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
	ends("End", "id: evstream.end\nevent: end\ndata: {}\n\n", ReasonEnded, Options{}, func(s *served) { s.End() })
	ends("Close", "retry: N\n", ReasonReload, Options{}, func(s *served) { s.Close(ReasonReload) })
	ends("client", "", ReasonClient, Options{}, func(s *served) { s.leave() })
	ends("broker", "retry: N\n", ReasonClosed, Options{}, func(s *served) {
		if err := s.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	ends("age", "retry: N\n", ReasonAge, Options{MaxAge: time.Second}, func(*served) {})
	ends("drain", "retry: N\n", ReasonShutdown, Options{}, func(s *served) {
		begun := time.Now()
		s.Drain(5*time.Second, ReasonShutdown)
		<-s.Done()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("drained after %s", took)
		}
	})
	ends("sooner than planned", "id: evstream.end\nevent: end\ndata: {}\n\n", ReasonEnded, Options{}, func(s *served) {
		s.Drain(time.Hour, ReasonShutdown)
		s.End()
		s.Drain(time.Hour, ReasonShutdown)
	})
	ends("with a cursor that has moved", "id: ID\nevent: evstream.at\nretry: N\ndata: {}\n\n", ReasonReload, Options{}, func(s *served) {
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
			s.expect(t, "retry: N\n")
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
