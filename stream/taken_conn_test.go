package stream

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A client that allows much and takes nothing does not have the connection keep it.
func TestOfATakenStreamABoundedPartIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := openTaken(t, Options{})
		s.take()
		sent := make(chan struct{})
		c.sent = sent
		event := strings.Repeat("x", 1000)
		for range 100 {
			s.publish(t, "a", event)
			synctest.Wait()
		}
		if n := len(strings.Join(s.take(), "")); n > maxQueued || n < maxQueued/2 {
			t.Errorf("%d bytes are queued, want up to %d", n, maxQueued)
		}
		time.Sleep(9 * time.Second) // less than the write timeout
		close(sent)
		synctest.Wait()
		if n := strings.Count(strings.Join(s.take(), ""), event); n != 100-maxQueued/1000 && n != 100-maxQueued/1000+1 {
			t.Errorf("%d of 100 events come later", n)
		}
		// What the worker has waited for was sent: there is room again.
		c.sent = make(chan struct{})
		for range 10 {
			s.publish(t, "a", event)
			s.expect(t, "id: ID\ndata: "+event+"\n\n")
		}
	})
}

func TestATakenStreamEndsInGoodOrderOrIsReset(t *testing.T) {
	stalled := func(s *served, _ *takenClient) { s.stall() }
	for name, tt := range map[string]struct {
		options Options
		before  func(*served, *takenClient)
		end     func(*served)
		good    bool
		within  time.Duration
	}{
		"it is ended":                         {end: func(s *served) { s.End() }, good: true},
		"it is old":                           {options: Options{MaxAge: time.Minute}, end: func(*served) {}, good: true, within: time.Minute + time.Second},
		"its client leaves":                   {end: func(s *served) { s.leave() }},
		"its client leaves while it waits":    {before: stalled, end: func(s *served) { s.leave() }},
		"its client is slow":                  {before: stalled, end: func(*served) {}, within: 12 * time.Second},
		"it is ended while it waits":          {before: stalled, end: func(s *served) { s.End() }, within: 12 * time.Second},
		"it is aborted while it waits":        {before: stalled, end: func(s *served) { s.Abort() }},
		"the server is closed":                {end: func(s *served) { s.server.Close() }, good: true},
		"the server is closed while it waits": {before: stalled, end: func(s *served) { s.server.Close() }},
		"it is cut":                           {options: Options{Raw: true, Whole: true}, end: func(s *served) { s.End() }},
		"it was broken":                       {before: func(_ *served, c *takenClient) { c.hangUp() }, end: func(*served) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := openTaken(t, tt.options)
				if tt.before != nil {
					tt.before(s, c)
				}
				s.publish(t, "a", "1")
				synctest.Wait()
				begun := time.Now()
				tt.end(s)
				<-s.Done()
				synctest.Wait()
				if took := time.Since(begun); !c.closed || c.good != tt.good || took > tt.within {
					t.Errorf("closed: %v, in good order: %v, after %s", c.closed, c.good, took)
				}
				if got := strings.Join(s.take(), ""); tt.good && !strings.HasSuffix(got, "\n") {
					t.Errorf("it ends with %q", got)
				}
			})
		})
	}
}

func TestWhatCannotBeTakenIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serve(t, Options{}).server
		left(t, server, "the server does not give it", func(*takenClient) Taker {
			return func(http.ResponseWriter) func() (Taken, error) { return nil }
		})
		for _, header := range []string{"Trailer", http.TrailerPrefix + "X-A"} {
			left(t, server, header, func(c *takenClient) Taker {
				c.header[header] = []string{"X-A"}
				return c.taker
			})
		}
		left(t, server, "the Server is closed", func(c *takenClient) Taker {
			server.Close()
			return c.taker
		})
	})
}

// left tests that a stream is not taken, and can be served still.
func left(t *testing.T, server *Server, name string, refuse func(*takenClient) Taker) {
	t.Helper()
	o := Options{}
	o.Subscribe.Channels = []string{"a"}
	s, err := server.Session(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(ReasonClient)
	c := newTakenClient()
	taker := refuse(c)
	header := c.Header().Clone()
	if ok, err := s.DetachStream(c.client, taker); ok || err != nil {
		t.Errorf("%s: %v, %v", name, ok, err)
	}
	if len(c.Header()) != len(header) || c.status != 0 || s.startServing() != nil {
		t.Errorf("%s: the stream has begun", name)
	}
}

// A stream whose client has left just before is one that has ended.
func TestAStreamThatIsGoneWhenItIsTakenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beside := serve(t, Options{})
		ended := 0
		o := Options{OnEnd: func() { ended++ }}
		o.Subscribe.Channels = []string{"a"}
		s, err := beside.server.Session(o)
		if err != nil {
			t.Fatal(err)
		}
		gone := func(http.ResponseWriter) func() (Taken, error) {
			return func() (Taken, error) { return nil, errors.New("it is gone") }
		}
		if ok, err := s.DetachStream(newClient(), gone); !ok || err != nil || ended != 1 || s.Reason() != ReasonClient {
			t.Errorf("%v, %v, ended %d times for %q", ok, err, ended, s.Reason())
		}
		if n := beside.server.writers.coming; n != 0 {
			t.Errorf("%d streams are waited for", n)
		}
	})
}

// What a worker has begun with must not change: events that are not of the history itself
// are in memory that the writer uses again for its next stream.
func TestAWorkerWritesTheBytesOfItsOwnStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, _ := openTaken(t, Options{})
		o := Options{}
		o.Subscribe.Channels = []string{"a", "b"} // merged, in the writer's own memory
		one, oneClient := takeClient(t, first.server, o)
		two, twoClient := takeClient(t, first.server, o)
		synctest.Wait()
		for _, s := range []*served{first, one, two} {
			s.take()
		}
		oneClient.stall()
		twoClient.stall()
		for i := range 30 {
			first.publish(t, []string{"a", "b"}[i%2], strings.Repeat(string(rune('a'+i%26)), 1000))
		}
		synctest.Wait()
		oneClient.release()
		twoClient.release()
		synctest.Wait()
		a, b := strings.Join(one.take(), ""), strings.Join(two.take(), "")
		if a != b || strings.Count(a, "data: ") != 30 || slices.Contains(strings.Split(a, "\n"), "data: ") {
			t.Errorf("%d and %d bytes, %d events", len(a), len(b), strings.Count(a, "data: "))
		}
	})
}
