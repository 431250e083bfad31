package stream

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// manyOn opens n streams of channel a, each of which reads another channel, too.
func manyOn(t *testing.T, n int, own func(i int) string) []*served {
	t.Helper()
	options := func(i int) Options {
		return Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a", own(i)}}}
	}
	all := []*served{serve(t, options(0))}
	for i := range n - 1 {
		all = append(all, all[0].another(t, options(i+1)))
	}
	synctest.Wait()
	return all
}

func ownName(i int) string { return "own." + string(rune('a'+i%26)) + string(rune('a'+i/26)) }

// alone opens a stream of a channel that nobody else reads.
func alone(t *testing.T, other *served) *served {
	t.Helper()
	s := other.another(t, Options{Subscribe: broker.SubscribeOptions{Channels: []string{"small"}}})
	synctest.Wait()
	return s
}

// While the streams of a crowd are written, those that are woken alone come first:
// the reader of a small channel, and one of the crowd that has not had its turn.
func TestDetachedStreamsThatAreWokenAloneAreWrittenBeforeTheCrowd(t *testing.T) {
	t.Run("detached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			crowd := manyOn(t, 300, ownName)
			small := alone(t, crowd[0])
			var same []*served // that the same writer writes
			for _, s := range crowd {
				if s.stream.writer == small.stream.writer {
					same = append(same, s)
				}
			}
			const middle = 10
			last := same[0] // readers are woken from the last to the first
			written, smallAfter, lastAfter := 0, 0, 0
			for _, s := range same {
				s.before(func() {
					if s == last {
						lastAfter = written
					}
					if written++; written == middle {
						s.publish(t, "small", "1")
						s.publish(t, ownName(indexOf(crowd, last)), "1")
					}
				})
			}
			small.before(func() { smallAfter = written })
			small.publish(t, "a", "1")
			synctest.Wait()
			if smallAfter != middle || lastAfter != middle {
				t.Errorf("the small one is written after %d of a crowd of %d, and the last one of the crowd after %d; want %d, when they were woken alone",
					smallAfter, len(same), lastAfter, middle)
			}
		})
	})
}

func indexOf(all []*served, one *served) int {
	for i, s := range all {
		if s == one {
			return i
		}
	}
	return -1
}

// Streams that are always woken alone leave half of the time to a crowd.
func TestStreamsThatAreWokenAloneLeaveTimeToTheCrowd(t *testing.T) {
	t.Run("detached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const takes = 100 * time.Microsecond // a write
			crowd := manyOn(t, 200, ownName)
			small := alone(t, crowd[0])
			var busy atomic.Bool
			busy.Store(true)
			var smalls atomic.Int32
			small.before(func() {
				time.Sleep(takes)
				if smalls.Add(1); busy.Load() {
					small.publish(t, "small", "again")
				}
			})
			var written atomic.Int32
			for _, s := range crowd {
				s.before(func() {
					time.Sleep(takes)
					written.Add(1)
				})
			}
			small.publish(t, "small", "first")
			small.publish(t, "a", "1")
			time.Sleep(3 * takes * time.Duration(len(crowd)))
			if n := int(written.Load()); n != len(crowd) {
				t.Errorf("%d of a crowd of %d are written beside %d writes of one that is always busy", n, len(crowd), smalls.Load())
			}
			busy.Store(false)
			synctest.Wait()
			if int(smalls.Load()) < len(crowd)/4 {
				t.Errorf("the one that is woken alone has %d writes beside %d of the crowd", smalls.Load(), len(crowd))
			}
		})
	})
}

// Not all attached streams of a crowd are runnable at once, and stalled ones do not
// hold up the others. Streams that are woken alone do not wait.
func TestAttachedStreamsOfACrowdAreWrittenASliceAtATime(t *testing.T) {
	t.Run("attached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			slice := sliceStreams * runtime.GOMAXPROCS(0)
			crowd := manyOn(t, 5*slice, ownName)
			small := alone(t, crowd[0])
			var begun, firstHas atomic.Int32
			release := make(chan struct{})
			for _, s := range crowd {
				s.before(func() {
					if begun.Add(1); s == crowd[0] { // the last to be woken
						firstHas.Add(1)
					}
					<-release
				})
			}
			written := make(chan struct{}, 1)
			small.before(func() { written <- struct{}{} })

			small.publish(t, "a", "1")
			synctest.Wait()
			if n := int(begun.Load()); n == 0 || n > slice {
				t.Errorf("%d writes are begun at once, want %d at most", n, slice)
			}
			small.publish(t, "small", "1")
			small.publish(t, ownName(0), "1")
			synctest.Wait()
			if len(written) != 1 || firstHas.Load() != 1 {
				t.Errorf("while a crowd is stalled, %d of 1 streams are written that were woken alone, and %d of 1 of the crowd",
					len(written), firstHas.Load())
			}
			time.Sleep(10 * slicePatience)
			if n := int(begun.Load()); n < len(crowd) {
				t.Errorf("%d of %d writes are begun: stalled ones hold up the others", n, len(crowd))
			}
			close(release)
		})
	})
}
