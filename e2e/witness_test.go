package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// witness reads a stream in the background, and checks that the numbers on it
// are 1, 2, 3 …
type witness struct {
	r    *reader
	last atomic.Int64
	done chan struct{} // closed at the end of the stream, when err is set
	err  error
}

// watch begins to read, until the end of the stream or of the test.
func watch(t testing.TB, r *reader) *witness {
	t.Helper()
	w := &witness{r: r, done: make(chan struct{})}
	go w.read()
	t.Cleanup(func() {
		r.cancel()
		<-w.done
	})
	return w
}

func (w *witness) read() {
	defer close(w.done)
	for {
		e, err := w.r.next()
		if err != nil {
			w.err = err
			return
		}
		if want := w.last.Load() + 1; number(e.Data) != want {
			w.err = fmt.Errorf("instead of %d: %.200q", want, e.Data)
			return
		}
		w.last.Add(1)
	}
}

// number is the number in the first line of the data of an event.
func number(data []byte) int64 {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	n, _ := strconv.ParseInt(string(line), 10, 64)
	return n
}

// at is the newest number.
func (w *witness) at() int { return int(w.last.Load()) }

// alive reports an error if the stream has ended.
func (w *witness) alive() error {
	select {
	case <-w.done:
		return fmt.Errorf("a stream has ended after event %d: %w", w.at(), w.err)
	default:
		return nil
	}
}

// crowd opens n streams of a channel, n/len(protos) with each protocol, and
// watches them. On HTTP/2 and 3, 20 streams share a connection.
func crowd(t testing.TB, s *server, n int, path string, protos ...protocol) []*witness {
	t.Helper()
	return crowdOf(t, s, n, 20, path, protos...)
}

// crowdOf is crowd with so many streams that share a connection.
func crowdOf(t testing.TB, s *server, n, shared int, path string, protos ...protocol) []*witness {
	t.Helper()
	const opening = 16
	witnesses := make([]*witness, n)
	clients := make(map[string]*http.Client)
	var wg sync.WaitGroup
	places := make(chan struct{}, opening) // bounds how many are being opened
	for i := range witnesses {
		proto := protos[i%len(protos)]
		key := string(proto)
		if proto == tlsH2 || proto == tlsH3 {
			key += strconv.Itoa(i / len(protos) / shared)
		}
		if clients[key] == nil {
			clients[key] = proto.client(t)
		}
		client := clients[key]
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			r, err := tryOpen(t, client, proto.url(s, path))
			// Just after a reload Caddy may close a new connection unread.
			for tries := 1; tries < 5 && err != nil; tries++ {
				if _, unanswered := errors.AsType[*url.Error](err); !unanswered {
					break
				}
				r, err = tryOpen(t, client, proto.url(s, path))
			}
			if err == nil {
				err = proto.check(r.response)
			}
			if err != nil {
				t.Error(err)
				return
			}
			witnesses[i] = watch(t, r)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return witnesses
}

// slowest is the number that all of them have received.
func slowest(witnesses []*witness) int {
	least := witnesses[0].at()
	for _, w := range witnesses {
		least = min(least, w.at())
	}
	return least
}

// allAlive checks that no stream has ended.
func allAlive(t testing.TB, witnesses []*witness) {
	t.Helper()
	for i, w := range witnesses {
		if err := w.alive(); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
}
