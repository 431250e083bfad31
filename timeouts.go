package evstream

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// unhurried is a request that outlives the server's timeouts: a stream, a
// poll, or a body that sends events as they happen.
type unhurried struct {
	ctrl         *http.ResponseController
	writeTimeout time.Duration
	restore      []func()
}

// unhurry lifts the ceilings that Caddy's server, or its timeouts handler, put
// over the request. done must be called before the handler returns.
func unhurry(w http.ResponseWriter, r *http.Request, idle, writeTimeout time.Duration) *unhurried {
	u := &unhurried{ctrl: http.NewResponseController(w), writeTimeout: writeTimeout}
	reader, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if reader != nil {
		reader.Deadline.HardDeadline = time.Time{}
		if idle > 0 {
			u.restore = append(u.restore, reader.Override(idle, 0))
		}
	}
	if writer != nil {
		writer.Deadline.HardDeadline = time.Time{}
		u.restore = append(u.restore, writer.Override(writeTimeout, 0, 0))
	}
	_ = u.ctrl.SetReadDeadline(time.Time{})
	_ = u.ctrl.SetWriteDeadline(time.Time{})
	return u
}

// answering bounds the writing of an answer. What it returns flushes the
// answer and lifts the bound, which would else fall on the next request.
func (u *unhurried) answering() (flush func()) {
	_ = u.ctrl.SetWriteDeadline(time.Now().Add(u.writeTimeout))
	return func() {
		_ = u.ctrl.Flush()
		_ = u.ctrl.SetWriteDeadline(time.Time{})
	}
}

// fail is endpoint.fail, bounded like an answer. An error that the site's
// routes answer is theirs to flush.
func (u *unhurried) fail(e *endpoint, w http.ResponseWriter, err error) error {
	if !e.errorRoute {
		defer u.answering()()
	}
	return e.fail(w, err)
}

// done gives the request back to the server.
func (u *unhurried) done() {
	for _, restore := range u.restore {
		restore()
	}
}

// undated has Caddy's writer set no deadlines from now on: it sets and clears one
// for each write and for each flush, which over HTTP/2 costs more than both. Who
// asks for this ends what is stalled. dated is the way back.
func undated(r *http.Request) {
	if _, writer := caddyhttp.IdleTimeoutsFromContext(r.Context()); writer != nil {
		writer.Ctrl = http.NewResponseController(timeless{})
	}
}

// dated has Caddy's writer set deadlines again. Over HTTP/1 what the server
// writes by itself when the handler has returned gets one here, as it would
// have had one that was left from the last write.
func dated(r *http.Request, writeTimeout time.Duration) {
	_, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if writer == nil {
		return
	}
	writer.Ctrl = http.NewResponseController(writer.ResponseWriter)
	if r.ProtoMajor == 1 {
		_ = writer.Ctrl.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
}

// timeless stands for a response that has no deadlines.
type timeless struct{ http.ResponseWriter }

// SetWriteDeadline is for http.ResponseController.
func (timeless) SetWriteDeadline(time.Time) error { return nil }

// Bounds of bodies that are not read for what they hold, or only in part.
const (
	maxIgnoredBody   = 64 << 10
	ignoredBodyTime  = 5 * time.Second
	abandonedTime    = time.Second
	streamedBodyIdle = 5 * time.Minute
)

// ignoreBody reads the body of a request that should have none. While one is
// unread, HTTP/1 neither begins to answer nor notices that the client left.
func ignoreBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	ctrl := http.NewResponseController(w)
	_ = ctrl.SetReadDeadline(time.Now().Add(ignoredBodyTime))
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxIgnoredBody+1))
	if err != nil || n > maxIgnoredBody {
		abandonBody(w, r)
		return badBody.because("a GET has no body, and this one did not end soon")
	}
	return nil
}

// abandonBody prepares for an answer while the body still flows: without it,
// HTTP/1 answers only when the body has ended. The connection closes after.
func abandonBody(w http.ResponseWriter, r *http.Request) {
	ctrl := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		_ = ctrl.EnableFullDuplex()
		w.Header().Set("Connection", "close")
	}
	_ = ctrl.SetReadDeadline(time.Now().Add(abandonedTime))
}

// flowingBody is a body that may pause for as long as streamedBodyIdle, but
// does not hold up the server's exit.
type flowingBody struct {
	body io.Reader
	ctrl *http.ResponseController
	exit <-chan struct{}
	stop chan struct{}
	done sync.WaitGroup
}

// flow begins to watch for the exit. close must be called.
func (u *unhurried) flow(body io.Reader, exit <-chan struct{}) *flowingBody {
	f := &flowingBody{body: body, ctrl: u.ctrl, exit: exit, stop: make(chan struct{})}
	f.done.Go(func() {
		select {
		case <-exit:
			f.interrupt()
		case <-f.stop:
		}
	})
	return f
}

// Read implements io.Reader.
func (f *flowingBody) Read(p []byte) (int, error) {
	_ = f.ctrl.SetReadDeadline(time.Now().Add(streamedBodyIdle))
	if f.interrupted() { // asked after the deadline was set, so that it is not lost
		f.interrupt()
	}
	return f.body.Read(p)
}

func (f *flowingBody) interrupt() { _ = f.ctrl.SetReadDeadline(time.Unix(1, 0)) }

func (f *flowingBody) interrupted() bool {
	select {
	case <-f.exit:
		return true
	default:
		return false
	}
}

// close ends the watching and waits for it: a deadline that is set later would
// be another request's.
func (f *flowingBody) close() {
	close(f.stop)
	f.done.Wait()
}
