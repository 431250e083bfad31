package doctor

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// maxEvent bounds what one event of a stream may take here.
const maxEvent = 1 << 20

// arrival is an event that came, or a comment: then the event is empty.
type arrival struct {
	at      time.Time // when its last bytes came
	comment bool
	event   sse.Event
}

// reading is a stream that was asked for. Its answer may never come.
type reading struct {
	begun    time.Time
	answered chan struct{} // closed when resp or err is set
	resp     *http.Response
	header   time.Time // when the header came
	err      error

	arrivals chan arrival // closed at the end of the body
	ended    error        // why it ended, once arrivals is closed: io.EOF if the body was complete
	stop     func()       // leaves it, and waits until it is left
}

// read asks for a stream. Who calls it calls stop.
func read(ctx context.Context, client *http.Client, req *http.Request) *reading {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	r := &reading{
		begun: time.Now(), answered: make(chan struct{}), arrivals: make(chan arrival, 64),
		stop: func() {
			cancel()
			<-done
		},
	}
	go func() {
		defer close(done)
		r.run(ctx, client, req.WithContext(ctx))
	}()
	return r
}

func (r *reading) run(ctx context.Context, client *http.Client, req *http.Request) {
	defer close(r.arrivals)
	resp, err := client.Do(req)
	r.resp, r.err, r.header = resp, err, time.Now()
	close(r.answered)
	if err != nil {
		r.ended = err
		return
	}
	defer resp.Body.Close()
	tap := &tap{ctx: ctx, reading: r, body: resp.Body, lineStart: true}
	var from io.Reader = tap
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(tap)
		if err != nil {
			r.ended = err
			return
		}
		from = z
		tap.packed = true
	}
	d := sse.NewDecoder(from, maxEvent)
	for {
		e, err := d.Next()
		if err != nil {
			r.ended = err
			return
		}
		if !r.tell(ctx, arrival{at: tap.last, event: e}) {
			r.ended = ctx.Err()
			return
		}
	}
}

// tell hands an arrival on, and reports whether somebody still wants it.
func (r *reading) tell(ctx context.Context, a arrival) bool {
	select {
	case r.arrivals <- a:
		return true
	case <-ctx.Done():
		return false
	}
}

// tap reads the body for a decoder, which skips comments, and tells of these.
type tap struct {
	ctx       context.Context
	reading   *reading
	body      io.Reader
	last      time.Time // of the last bytes
	lineStart bool
	packed    bool // compressed: its lines cannot be seen here
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.body.Read(b)
	if n > 0 {
		t.last = time.Now()
	}
	for _, c := range b[:n] {
		if t.packed {
			break
		}
		if c == ':' && t.lineStart && !t.reading.tell(t.ctx, arrival{at: t.last, comment: true}) {
			return 0, t.ctx.Err()
		}
		t.lineStart = c == '\n' || c == '\r'
	}
	return n, err
}

// answer waits for the header, and reports whether it came.
func (r *reading) answer(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.answered:
		return r.err == nil
	case <-timer.C:
		return false
	}
}

// errLate is the error of next if nothing came in time.
var errLate = errors.New("nothing came in time")

// next waits for an event that is wanted. The error is errLate, or that of the end
// of the stream.
func (r *reading) next(patience time.Duration, wanted func(arrival) bool) (arrival, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case a, ok := <-r.arrivals:
			if !ok {
				return a, r.ended
			}
			if wanted(a) {
				return a, nil
			}
		case <-timer.C:
			return arrival{}, errLate
		}
	}
}

func anything(arrival) bool { return true }

// named wants events of a type.
func named(typ string) func(arrival) bool {
	return func(a arrival) bool { return !a.comment && a.event.Type == typ }
}

// carrying wants events with this data.
func carrying(data string) func(arrival) bool {
	return func(a arrival) bool { return !a.comment && string(a.event.Data) == data }
}
