package stream

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// sink is a client that counts what it gets, as a ResponseWriter and as a rawConn.
type sink struct {
	header http.Header
	count  *atomic.Int64
}

func (s *sink) Header() http.Header              { return s.header }
func (s *sink) WriteHeader(int)                  {}
func (s *sink) Write(p []byte) (int, error)      { s.count.Add(1); return len(p), nil }
func (s *sink) FlushError() error                { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) discard()                         {}
func (s *sink) watch(watcher)                    {}
func (s *sink) close(bool)                       {}

func (s *sink) write(c *chunk) (int, error) {
	s.count.Add(1)
	return c.left(), nil
}

// BenchmarkDeliver publishes one event at a time to streams whose clients cost
// nothing: what remains is waking, reading and pacing. The allocations are
// those of one publish, whatever the number of streams.
func BenchmarkDeliver(b *testing.B) {
	for _, mode := range []string{"attached", "detached"} {
		for _, streams := range []int64{1, 64, 1000} {
			b.Run(mode+"/streams="+strconv.FormatInt(streams, 10), func(b *testing.B) { deliver(b, mode == "detached", streams) })
		}
	}
}

func deliver(b *testing.B, detached bool, streams int64) {
	hub, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	defer hub.Close()
	server := NewServer(hub)
	defer server.Close()
	var count atomic.Int64
	for range streams {
		s, err := server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		if err != nil {
			b.Fatal(err)
		}
		c := &sink{http.Header{}, &count}
		if detached {
			if _, err := s.writeOpening(newResponse(c)); err != nil {
				b.Fatal(err)
			}
			server.writers.adoptNow(s, c)
			continue
		}
		if err := s.Begin(c, httptest.NewRequest(http.MethodGet, "/", nil), nil); err != nil {
			b.Fatal(err)
		}
		defer s.Wait()
		defer s.Close(ReasonEnded)
	}
	op := []broker.Op{{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: make([]byte, 100)}}}
	for i := range op[0].Event.Data {
		op[0].Event.Data[i] = 'x'
	}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		want := count.Load() + streams
		if _, err := hub.Publish(ctx, op); err != nil {
			b.Fatal(err)
		}
		for count.Load() < want {
			time.Sleep(time.Microsecond)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(streams), "ns/delivery")
}
