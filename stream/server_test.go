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
		s.expect(t, "retry: N\n\n")
		<-s.Done()
		synctest.Wait()
		s.server.Close()
	})
}
