package httpapi

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/problem"
)

// longRequest is a request that outlives the server's timeouts: a stream, a
// poll, or a body that sends events as they happen.
type longRequest struct {
	ctrl         *http.ResponseController
	writeTimeout time.Duration
	restore      func()
}

// longRequest lifts the ceilings that a server puts over a request. A body may
// be idle for as long as idle says, if it is not 0. done must be called before
// the handler returns.
func (h *Handler) longRequest(w http.ResponseWriter, r *http.Request, idle time.Duration) *longRequest {
	u := &longRequest{ctrl: http.NewResponseController(w), writeTimeout: h.stream.WriteTimeout}
	u.restore = h.host.LiftTimeouts(r, idle, h.stream.WriteTimeout)
	_ = u.ctrl.SetReadDeadline(time.Time{})
	_ = u.ctrl.SetWriteDeadline(time.Time{})
	return u
}

// answering bounds the writing of an answer. What it returns flushes the
// answer and lifts the bound, which would else fall on the next request.
func (u *longRequest) answering() (flush func()) {
	_ = u.ctrl.SetWriteDeadline(time.Now().Add(u.writeTimeout))
	return func() {
		_ = u.ctrl.Flush()
		_ = u.ctrl.SetWriteDeadline(time.Time{})
	}
}

// fail is Endpoint.fail, bounded like an answer.
func (u *longRequest) fail(h *Handler, w http.ResponseWriter, err error) error {
	return h.failThen(w, err, u.answering)
}

// done gives the request back to the server.
func (u *longRequest) done() { u.restore() }

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
		return problem.BadBody.Because("a GET has no body, and this one did not end soon")
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
func (u *longRequest) flow(body io.Reader, exit <-chan struct{}) *flowingBody {
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
