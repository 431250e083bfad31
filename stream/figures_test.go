package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// TestTheLagIsThatOfEventsThatCameWhileTheStreamWasOpen: a replay of an hour ago is no
// delay of an hour.
func TestTheLagIsThatOfEventsThatCameWhileTheStreamWasOpen(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.publish(t, "a", "old")
		synctest.Wait()
		before := s.server.Stats()
		if count, _ := before.Lag.Cumulative(); count != 0 && before.Lag.Sum != 0 {
			t.Fatalf("in the millisecond of the opening: %+v", before)
		}
		time.Sleep(30 * time.Minute)
		s.take()
		n, err := s.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}, Start: broker.Start{Earliest: true}}})
		if err != nil {
			t.Fatal(err)
		}
		c := newClient()
		if ok, err := n.writeOpening(newResponse(c)); err != nil || !ok {
			t.Fatal(ok, err)
		}
		s.server.writers.adoptNow(n, c) // one that replays
		synctest.Wait()
		if got := s.server.Stats().Lag; got != before.Lag {
			t.Errorf("after a replay: %+v", got)
		}
		// Both get one that comes now; the write of a slow one takes three seconds.
		c.mu.Lock()
		c.stalled = true
		c.mu.Unlock()
		s.publish(t, "a", "new")
		time.Sleep(3 * time.Second)
		c.mu.Lock()
		c.stalled = false
		c.mu.Unlock()
		c.stream.onWritable()
		synctest.Wait()
		after := s.server.Stats().Lag
		count, atMost := after.Cumulative()
		was, _ := before.Lag.Cumulative()
		if count-was != 2 || atMost[2.5]-was != 1 || atMost[5]-was != 2 {
			t.Errorf("of two writes, one of which took 3 s: %+v", after)
		}
		n.End()
		s.End()
	})
}

// TestEachByteOfAStreamIsCounted counts what a client gets.
func TestEachByteOfAStreamIsCounted(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: time.Second})
		got := 0
		read := func() {
			t.Helper()
			synctest.Wait()
			s.client.mu.Lock()
			defer s.client.mu.Unlock()
			for _, f := range s.frames {
				got += len(f)
			}
			s.frames = nil
			if n := s.server.Stats().Bytes; n != uint64(got) {
				t.Errorf("%d bytes are counted, and %d were written", n, got)
			}
		}
		read()
		for range 10 {
			s.publish(t, "a", "some data")
			time.Sleep(1500 * time.Millisecond)
			read()
		}
		s.End()
		read()
	})
}

func TestTheTimeOfDayIsSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{began: time.Now()}
		for range 5 {
			if got, want := s.clock.micros(s, s.now()), time.Now().UnixMicro(); got != want {
				t.Errorf("%d, and it is %d", got, want)
			}
			s.clock.began.Add(1e12) // the clock was wrong
			time.Sleep(2 * time.Second)
		}
	})
}

// BenchmarkFigures is what the figures add to a write.
func BenchmarkFigures(b *testing.B) {
	s := &Server{began: time.Now(), figures: make([]figures, 1)}
	session := &Session{server: s, figures: &s.figures[0]}
	session.state.last = broker.ID{Ms: uint64(time.Now().UnixMilli())}
	b.ReportAllocs()
	for b.Loop() {
		session.figures.bytes.Add(100)
		session.wroteEvents(s.now())
	}
}
