package stream

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shared gives an idle attached stream an HTTP/2 connection.
func (s *served) shared() {
	s.Session.attached.Load().h2 = s.server.h2conns.acquire(sharedConn, s.server.workers, time.Minute, func(net.Conn, time.Duration) {})
}

// A stream of an HTTP/2 connection that is woken alone does not wait for a crowd, also
// where another stream of its connection is one of that crowd, or it is itself.
func TestStreamsOfAConnectionThatAreWokenAloneDoNotWaitForACrowd(t *testing.T) {
	for name, sharedOnes := range map[string]func(crowd []*served, small *served) []*served{
		"alone":                func(_ []*served, small *served) []*served { return []*served{small} },
		"beside one of it":     func(crowd []*served, small *served) []*served { return []*served{crowd[0], small} },
		"being one of it":      func(crowd []*served, _ *served) []*served { return crowd[:1] },
		"being several of it":  func(crowd []*served, _ *served) []*served { return crowd[:3] },
		"beside several of it": func(crowd []*served, small *served) []*served { return append(crowd[:3:3], small) },
	} {
		t.Run(name+"/attached", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				crowd := manyOn(t, 5*sliceStreams*runtime.GOMAXPROCS(0), ownName)
				small := alone(t, crowd[0])
				release := make(chan struct{})
				for _, s := range crowd[3:] { // the first are woken last
					s.before(func() { <-release })
				}
				all := sharedOnes(crowd, small)
				var written atomic.Int32
				for _, s := range all {
					s.shared()
					s.before(func() { written.Add(1) })
				}
				small.publish(t, "a", "1")
				synctest.Wait()
				if n := written.Load(); n != 0 {
					t.Fatalf("%d are written before their turn", n)
				}
				if all[len(all)-1] == small {
					small.publish(t, "small", "1")
				} else {
					small.publish(t, ownName(0), "1")
				}
				synctest.Wait()
				if n := int(written.Load()); n != len(all) {
					t.Errorf("%d of %d streams of the connection are written while a crowd is stalled", n, len(all))
				}
				close(release)
			})
		})
	}
}
