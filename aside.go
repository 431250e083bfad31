package evstream

import (
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// aside is a stream's beginning on a goroutine of its own. An attached stream
// holds the goroutine of its handler for as long as it lasts, with a stack that
// is as large as it ever had to be; this keeps it from having to be large.
type aside struct {
	live     *live // a stream that is attached, and goes on
	err      error
	panicked any
	over     sync.WaitGroup
}

// subscribe serves a stream: until it ends, or until it is detached.
func (e *endpoint) subscribe(w http.ResponseWriter, r *http.Request, t target, q query) error {
	if err := e.hub.limits.mayConnect(r); err != nil {
		return e.turnAway(w, err)
	}
	a := new(aside)
	a.over.Go(func() { a.run(e, w, r, t, q) })
	a.over.Wait()
	live, err, panicked := a.live, a.err, a.panicked // and no more, as long as the stream lasts
	if panicked != nil {
		panic(panicked) // the server's to deal with, where it would have been
	}
	if live != nil {
		live.wait(r, e.stream.writeTimeout)
	}
	return err
}

func (a *aside) run(e *endpoint, w http.ResponseWriter, r *http.Request, t target, q query) {
	defer func() { a.panicked = recover() }()
	a.live, a.err = e.begin(w, r, t, q)
}

// wait waits for the end of a stream that is attached, and tells the access log
// about it.
func (l *live) wait(r *http.Request, writeTimeout time.Duration) {
	l.session.Wait()
	dated(r, writeTimeout)
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		for _, field := range l.ending() {
			extra.Set(field)
		}
	}
}
