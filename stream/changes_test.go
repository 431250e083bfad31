package stream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

func TestTheClientIsToldWhatItsSessionReads(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: -1})
		s.take()
		s.publish(t, "b", "old")
		s.publish(t, "a", "0")
		s.expect(t, "id: ID\ndata: 0\n\n")
		if err := s.Join("b", broker.Start{Earliest: true}); err != nil {
			t.Fatal(err)
		}
		// The event is older than what the client has an id of, so it comes without one.
		s.expect(t, "event: evstream.joined\ndata: {\"channel\":\"b\",\"channels\":[\"a\",\"b\"],\"last_event_id\":\"ID\",\"complete\":true}\n\ndata: old\n\n")
		s.publish(t, "b", "new")
		s.expect(t, "id: ID\ndata: new\n\n")
		if !s.Leave("b") {
			t.Error("it did not read b")
		}
		s.expect(t, "event: evstream.left\ndata: {\"channel\":\"b\",\"channels\":[\"a\"],\"last_event_id\":\"ID\"}\n\n")
		s.publish(t, "b", "not for it")
		if err := s.Join("c", broker.Start{}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "event: evstream.joined\ndata: {\"channel\":\"c\",\"channels\":[\"a\",\"c\"],\"last_event_id\":\"ID\"}\n\n")
		if err := s.Join("d", broker.Start{}); err != nil { // by now it has read over the event that it does not get
			t.Fatal(err)
		}
		s.expect(t, "id: ID\nevent: evstream.joined\ndata: {\"channel\":\"d\",\"channels\":[\"a\",\"c\",\"d\"],\"last_event_id\":\"ID\"}\n\n")
		s.Leave("a")
		s.expect(t, "event: evstream.left\ndata: {\"channel\":\"a\",\"channels\":[\"c\",\"d\"],\"last_event_id\":\"ID\"}\n\n")
	})
}

// So a page knows whether a value comes or there is none.
func TestAJoinSaysWhetherTheChannelHasAValue(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: -1})
		s.take()
		s.setValues(t, "b")
		if err := s.Join("b", broker.Start{}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "event: evstream.joined\ndata: {\"channel\":\"b\",\"channels\":[\"a\",\"b\"],\"last_event_id\":\"ID\",\"values\":[\"b\"]}\n\nevent: b\ndata: {\"value\":\"b\"}\n\n")
	})
}

// Until a client has a cursor it must not get one that lies above values or a gap which
// it has not been sent.
func TestAJoinGivesNoCursorToAClientThatHasNone(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		first := serve(t, Options{})
		s := first.another(t, Options{NoOpen: true, Heartbeat: -1, Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		synctest.Wait()
		s.take()
		if err := s.Join("b", broker.Start{}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "event: evstream.joined\ndata: {\"channel\":\"b\",\"channels\":[\"a\",\"b\"],\"last_event_id\":\"\"}\n\n")
	})
}

func TestAStreamEndsForAReason(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		s.EndBecause("logged \"out\"")
		s.EndBecause("too late")
		<-s.Done()
		s.expect(t, "id: evstream.end\nevent: end\ndata: {\"reason\":\"logged \\\"out\\\"\"}\n\n")
	})
}

func TestAnOfferDoesNotWait(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{WriteTimeout: time.Hour})
		s.take()
		release := s.hold()
		big := sse.Event{Data: []byte(strings.Repeat("x", 20<<10))}
		taken := 0
		for s.Offer(big) == nil {
			if taken++; taken > 100 {
				t.Fatal("it takes any number")
			}
			synctest.Wait()
		}
		if err := s.Offer(big); !errors.Is(err, ErrFull) || taken < 3 {
			t.Errorf("after %d: %v", taken, err)
		}
		if err := s.Offer(sse.Event{Type: "evstream.open"}); !errors.Is(err, broker.ErrReservedType) {
			t.Error(err)
		}
		release()
		synctest.Wait()
		time.Sleep(time.Second)
		if got := strings.Count(strings.Join(s.take(), ""), "data: x"); got != taken {
			t.Errorf("got %d of %d", got, taken)
		}
		if err := s.Offer(big); err != nil {
			t.Error(err)
		}
		s.Close(ReasonReload)
		<-s.Done()
		if err := s.Offer(big); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
	})
}

func TestLagIsThatOfTheOldestUnreadEvent(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{WriteTimeout: time.Hour, Heartbeat: -1}, func(c *broker.Config) { c.History.Events = 2 })
		s.publish(t, "other", "1")
		time.Sleep(time.Minute)
		if lag := s.Lag(); lag != 0 {
			t.Errorf("of one that has read everything: %s", lag)
		}
		release := s.hold()
		s.publish(t, "a", "being written")
		synctest.Wait()
		s.publish(t, "a", "waits")
		time.Sleep(3 * time.Second)
		if lag := s.Lag(); lag != 3*time.Second {
			t.Errorf("%s", lag)
		}
		for range 5 {
			s.publish(t, "a", "newer")
		}
		if lag := s.Lag(); lag < 3*time.Second {
			t.Errorf("of one that has fallen off its history: %s", lag)
		}
		release()
		synctest.Wait()
		time.Sleep(time.Second)
		if lag := s.Lag(); lag != 0 {
			t.Errorf("in the end: %s", lag)
		}
	})
}
