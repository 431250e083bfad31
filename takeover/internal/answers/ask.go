package answers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

// BodyTime is how long the body of an answer that is held back may take.
const BodyTime = 10 * time.Second

// Errors of answers that are held back.
var (
	ErrEndless = fmt.Errorf("its body did not end within %s: end the answer at once, and publish what comes later", BodyTime)
	ErrCutOff  = errors.New("its body was cut off")
)

// Dialect is how applications say what becomes of their answers.
type Dialect struct {
	// Fields are the header fields in which they say it. Nobody else can: those of the
	// client and of handlers in front are removed.
	Fields Fields
	// Prepare changes the request before the application gets it. Default: it does not.
	Prepare func(*http.Request)
	// Decide reads the status and the header of the final answer. holds says that the
	// answer is held back; so is one that cannot be followed, which is what the error says.
	// The client gets any other as it is, with the status that Decide returns and what it
	// leaves of the header.
	Decide func(status int, h http.Header) (passes int, holds bool, err error)
	// MaxBody bounds the body of an answer that is held back, in bytes, and TooLong is the
	// error of one that is longer.
	MaxBody int
	TooLong error
}

// Held is an answer that is held back.
type Held struct {
	Header http.Header // without the dialect's fields and without trailers
	Body   []byte
	Err    error // why it cannot be followed; nil if it can
}

// Ask has next answer a request. It returns the answer if that is held back: nothing has
// been written to w then, and w.Header is as it was before. It returns nil for every other
// answer, which has gone to w as next has written it, and where next has failed. The error
// is that of next, and nil beside a Held.
//
// The application is asked for answers that are not compressed.
func Ask(w http.ResponseWriter, r *http.Request, d *Dialect, next func(http.ResponseWriter, *http.Request) error) (*Held, error) {
	asked, cancel := d.strip(r)
	defer cancel(nil)
	d.Fields.Remove(w.Header())
	a := &writer{ResponseWriter: w, dialect: d, before: w.Header().Clone()}
	a.slow = func() (stop func() bool) {
		return time.AfterFunc(BodyTime, func() { cancel(ErrEndless) }).Stop
	}
	err := a.ask(asked, next)
	if !a.holds() {
		return nil, err
	}
	header := w.Header()
	clear(header)
	maps.Copy(header, a.before)
	if err != nil && a.err == nil {
		return nil, err
	}
	return &Held{a.header, a.body, a.err}, nil
}

// strip returns the request as the application gets it. Its trailers are those of r.
func (d *Dialect) strip(r *http.Request) (*http.Request, context.CancelCauseFunc) {
	if r.Trailer == nil {
		r.Trailer = make(http.Header) // the server adds those that nobody has announced
	}
	d.Fields.Remove(r.Trailer)
	ctx, cancel := context.WithCancelCause(r.Context())
	asked := r.WithContext(ctx)
	asked.URL = new(*r.URL) // which what stands behind may rewrite
	asked.Header = r.Header.Clone()
	d.Fields.Remove(asked.Header)
	asked.Header.Set("Accept-Encoding", "identity")
	if r.Body != nil && r.Body != http.NoBody {
		asked.Body = &strippedBody{r.Body, r.Trailer, d.Fields}
	}
	if d.Prepare != nil {
		d.Prepare(asked)
	}
	return asked, cancel
}

// strippedBody is the body of a request, after which the client may send trailers.
type strippedBody struct {
	io.ReadCloser
	trailer http.Header
	fields  Fields
}

// Read implements io.Reader.
func (b *strippedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.fields.Remove(b.trailer)
	}
	return n, err
}

// writer is the ResponseWriter of Ask.
type writer struct {
	http.ResponseWriter
	dialect *Dialect
	before  http.Header // before the application was asked
	decided bool        // the final status is known
	held    bool        // and the answer does not pass
	header  http.Header // of that
	body    []byte
	err     error // why it cannot be followed

	slow func() (stop func() bool) // begins to wait for the body; stop must be called
	stop func() bool               // nil until then
}

// holds reports whether what is written must not reach the client.
func (a *writer) holds() bool { return a.held || a.err != nil }

// ask has next answer. A proxy panics where the answer of its application is cut off.
func (a *writer) ask(r *http.Request, next func(http.ResponseWriter, *http.Request) error) error {
	defer func() {
		if a.stop != nil {
			a.stop()
		}
		endless := errors.Is(context.Cause(r.Context()), ErrEndless)
		if a.holds() && a.err == nil && endless {
			a.err = ErrEndless
		}
		p := recover()
		if p == nil {
			return
		}
		left := r.Context().Err() != nil && !endless
		if p != http.ErrAbortHandler || !a.holds() || left { //nolint:errorlint // it is what was panicked with
			panic(p)
		}
		if a.err == nil {
			a.err = ErrCutOff
		}
	}()
	return next(a, r)
}

// WriteHeader implements http.ResponseWriter.
func (a *writer) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		a.inform(status)
		return
	}
	if !a.decided {
		a.decided = true
		status = a.decide(status)
	}
	if !a.holds() {
		a.ResponseWriter.WriteHeader(status)
	}
}

// inform passes what comes before the answer: it decides nothing.
func (a *writer) inform(status int) {
	if a.holds() {
		return
	}
	header := a.Header()
	all := maps.Clone(header)
	a.dialect.Fields.Remove(header)
	a.ResponseWriter.WriteHeader(status)
	maps.Copy(header, all)
}

func (a *writer) decide(status int) (passes int) {
	header := a.Header()
	passes, a.held, a.err = a.dialect.Decide(status, header)
	if a.held && a.err == nil {
		a.header = header.Clone()
		a.dialect.Fields.Remove(a.header)
		RemoveTrailers(a.header)
		a.stop = a.slow()
	}
	return passes
}

// Write implements io.Writer.
func (a *writer) Write(p []byte) (int, error) {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if !a.holds() {
		return a.ResponseWriter.Write(p)
	}
	if a.err == nil && len(a.body)+len(p) > a.dialect.MaxBody {
		a.err = a.dialect.TooLong
	}
	if a.err != nil {
		return 0, a.err // the application need not send the rest
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom, so that a file that passes is sent as before.
func (a *writer) ReadFrom(r io.Reader) (int64, error) {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if !a.holds() {
		return io.Copy(a.ResponseWriter, r)
	}
	return io.Copy(struct{ io.Writer }{a}, r)
}

// FlushError is for http.ResponseController.
func (a *writer) FlushError() error {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if a.holds() {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (a *writer) Flush() { _ = a.FlushError() }

// Unwrap is for http.ResponseController.
func (a *writer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
