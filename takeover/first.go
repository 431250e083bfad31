package takeover

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/stream"
)

// maxLag bounds what waits for the first reader of a recorded answer, in bytes. Over it the
// reader is cut off, and may resume.
const maxLag = 256 << 10

// first is the first reader of an answer: the client whose request the application
// answers. It gets what the application writes, byte for byte, from a goroutine of its own,
// so that a slow client does not slow the application.
type first struct {
	w    http.ResponseWriter
	gone <-chan struct{} // closed when the client leaves
	slow chan struct{}   // closed when it is cut off
	over sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ready  sync.Cond  // something changed
	queue  []step
	due    bool // queue is to be written: the application has flushed, or as much waits as a server buffers
	bytes  int  // in queue, and being written
	holds  bool // a writer waits while much is in queue: the answer is not recorded
	ended  bool // nothing is added any more
	closed bool // nothing is written any more
	broke  any  // what a handler in front panicked with
}

// step is one thing that the application does with its response.
type step struct {
	status int         // of WriteHeader; 0 for none
	header http.Header // with status
	data   []byte
	flush  bool
}

func newFirst(w http.ResponseWriter, r *http.Request) *first {
	f := &first{w: w, gone: r.Context().Done(), slow: make(chan struct{})}
	f.ready.L = &f.mu
	f.over.Go(f.run)
	return f
}

// leave has nothing be written any more.
func (f *first) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.queue, f.bytes = true, nil, 0
	f.ready.Broadcast()
}

// add adds a step. It returns false if the client gets nothing any more.
func (f *first) add(s step) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.holds && !f.closed && f.lags(s) {
		f.ready.Wait()
	}
	if !f.closed && f.lags(s) && !f.holds {
		f.closed, f.queue, f.bytes = true, nil, 0
		f.ready.Broadcast()
		close(f.slow)
	}
	if f.closed {
		return false
	}
	if n := len(f.queue); n > 0 && s.flushes() {
		f.queue[n-1].flush = true
	} else {
		f.queue = append(f.queue, s)
		f.bytes += s.cost()
	}
	if !f.due && (s.flush || s.informs() || f.bytes >= maxUnflushed) {
		f.due = true
		f.ready.Broadcast()
	}
	return true
}

// maxUnflushed is how many bytes wait for a flush, about as with net/http. To write each step
// alone would wake two goroutines for an event.
const maxUnflushed = 4 << 10

// lags reports whether the client is too far behind for another step. One step is never too
// much: that it is long is not the client's doing. first.mu is held.
func (f *first) lags(s step) bool { return f.bytes > 0 && f.bytes+s.cost() > maxLag }

// stepCost is what a step needs besides its text, in bytes.
const stepCost = 64

func (s *step) cost() int { return stepCost + len(s.data) }

// flushes reports whether the step is nothing but a flush.
func (s *step) flushes() bool { return s.flush && s.status == 0 && len(s.data) == 0 }

// informs reports whether the step is an informational answer, which no server holds back.
func (s *step) informs() bool { return s.status >= 100 && s.status < 200 }

// wait has a writer wait from now on while the client is slow.
func (f *first) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds = true
}

// panicked is what a handler in front panicked with, once end has returned; nil for none.
func (f *first) panicked() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broke
}

// end waits until all is written, or the client has left. It reports whether the client
// is there still, and has not got all.
func (f *first) end() (cut bool) {
	f.mu.Lock()
	f.ended = true
	f.ready.Broadcast()
	f.mu.Unlock()
	f.over.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.gone:
		return false
	default:
		return f.closed
	}
}

// run writes what is added. A panic on this goroutine would end the server: it is kept for
// that of the request.
func (f *first) run() {
	defer func() {
		if p := recover(); p != nil {
			f.leave()
			f.mu.Lock()
			f.broke = p
			f.mu.Unlock()
		}
	}()
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-f.gone:
			f.leave()
		case <-f.slow:
		case <-stop:
			return
		}
		again := time.NewTicker(interruptEach)
		defer again.Stop()
		for {
			stream.Interrupt(f.w) // a write that is stalled
			select {
			case <-stop:
				return
			case <-again.C: // a handler in front has set another deadline just then, perhaps
			}
		}
	})
	defer f.hangUp()
	defer watch.Wait()
	defer close(stop)
	var steps []step
	for {
		f.mu.Lock()
		for !f.due && !f.ended && !f.closed {
			f.ready.Wait()
		}
		steps, f.queue, f.due = f.queue, steps[:0], false
		done := f.closed || f.ended && len(steps) == 0
		f.mu.Unlock()
		if done || !f.write(steps) {
			return
		}
	}
}

// interruptEach is how often a write to a client that gets nothing more is interrupted.
const interruptEach = 100 * time.Millisecond

// hangUp closes the connection of a client that is cut off. net/http would keep it until the
// application's answer is over, and the client would wait for that. HTTP/2 and 3 have reset
// the stream by the deadline of writing.
func (f *first) hangUp() {
	select {
	case <-f.slow:
		if conn, _, err := http.NewResponseController(f.w).Hijack(); err == nil {
			_ = conn.Close()
		}
	default:
	}
}

// write writes steps, and flushes once where several would.
func (f *first) write(steps []step) bool {
	flush := false
	for i := range steps {
		s := &steps[i]
		if s.status != 0 {
			header := f.w.Header()
			clear(header)
			maps.Copy(header, s.header)
			f.w.WriteHeader(s.status)
		}
		var err error
		if len(s.data) > 0 {
			_, err = f.w.Write(s.data)
		}
		if flush = flush || s.flush; err == nil && flush && i == len(steps)-1 {
			err = http.NewResponseController(f.w).Flush()
		}
		n := s.cost()
		*s = step{}
		if err != nil {
			f.leave()
			return false
		}
		f.wrote(n)
	}
	return true
}

func (f *first) wrote(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.bytes -= n
	}
	f.ready.Broadcast()
}
