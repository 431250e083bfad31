package httpapi

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// longRequest is a request that outlives the server's timeouts: a stream, a
// poll, or a body that sends events as they happen.
type longRequest struct {
	ctrl         *http.ResponseController
	writeTimeout time.Duration
	restore      func()
}

// longRequest lifts the server's timeouts for a request. If idle is not 0, its body may
// be idle for so long. done must be called before the handler returns.
func (h *Handler) longRequest(w http.ResponseWriter, r *http.Request, idle time.Duration) *longRequest {
	u := &longRequest{ctrl: http.NewResponseController(w), writeTimeout: h.stream.WriteTimeout}
	u.restore = h.host.LiftTimeouts(r, idle, h.stream.WriteTimeout)
	_ = u.ctrl.SetReadDeadline(time.Time{})
	_ = u.ctrl.SetWriteDeadline(time.Time{})
	return u
}

// answering sets a deadline for writing the answer. flush flushes the answer and clears
// the deadline, which would otherwise hold for the next request of the connection.
func (u *longRequest) answering() (flush func()) {
	_ = u.ctrl.SetWriteDeadline(time.Now().Add(u.writeTimeout))
	return func() {
		_ = u.ctrl.Flush()
		_ = u.ctrl.SetWriteDeadline(time.Time{})
	}
}

// fail is Handler.fail with the deadline of answering.
func (u *longRequest) fail(h *Handler, w http.ResponseWriter, err error) error {
	return h.failThen(w, err, u.answering)
}

// done restores the server's timeouts.
func (u *longRequest) done() { u.restore() }

// streamedBodyIdle is how long a body that sends events as they happen may be idle.
const streamedBodyIdle = 5 * time.Minute

// flowingBody is a streamed body. It may be idle for streamedBodyIdle; an exit
// interrupts it.
type flowingBody struct {
	body io.Reader
	ctrl *http.ResponseController
	exit <-chan struct{}
	stop func() // may be called more than once
	done sync.WaitGroup
}

// flow returns a flowingBody that exit interrupts. close must be called.
func (u *longRequest) flow(body io.Reader, exit <-chan struct{}) *flowingBody {
	stop := make(chan struct{})
	f := &flowingBody{body: body, ctrl: u.ctrl, exit: exit, stop: sync.OnceFunc(func() { close(stop) })}
	f.done.Go(func() {
		select {
		case <-exit:
			f.interrupt()
		case <-stop:
		}
	})
	return f
}

// Read implements io.Reader.
func (f *flowingBody) Read(p []byte) (int, error) {
	_ = f.ctrl.SetReadDeadline(time.Now().Add(streamedBodyIdle))
	if f.interrupted() { // after the deadline is set, which may have replaced that of interrupt
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

// close stops waiting for the exit. It returns when no deadline can be set any more:
// that would hold for the next request of the connection.
func (f *flowingBody) close() {
	f.stop()
	f.done.Wait()
}
