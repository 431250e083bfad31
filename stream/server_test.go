package stream

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/broker"
)

func TestAServerMayBeClosedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		server := NewServer(b)
		o := Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
		detached := detachClient(t, server, o)
		synctest.Wait()
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(func() {
				server.Close()
				select {
				case <-detached.Done():
				default:
					t.Error("a call returned before the detached stream had ended")
				}
			})
		}
		closing.Wait()
		server.Close()
	})
}

// The timers of an attached stream outlive a Close, and stop with the stream.
func TestAServerWithAnAttachedStreamMayBeClosedAgain(t *testing.T) {
	bubbleAttached(t, func(t *testing.T) {
		s := serve(t, Options{})
		s.server.Close()
		s.server.Close()
		s.take()
		s.Close(ReasonShutdown)
		s.expect(t, "retry: N\n")
		<-s.Done()
		synctest.Wait()
		s.server.Close()
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
		told.expect(t, "retry: N\n")
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
		if server.writers.reserve() {
			t.Error("one that comes late is let in")
		}
	})
}
