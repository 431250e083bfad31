package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/sse"
)

// recording records one answer. The handler behind writes it on the goroutine of the
// request, which waits for its end even when the client has left. One goroutine writes to
// the client, one publishes, and one ends the answer when it has to.
type recording struct {
	rec    *Recorder
	owned  *runs.Owned
	first  *first
	feed   *feed
	cancel context.CancelFunc // of the request to the application
	client context.Context    // ends when the client leaves

	header  http.Header
	decided bool   // the final status is known
	stream  bool   // and the answer is recorded
	tail    []byte // the last bytes that were written
	size    int
	work    sync.WaitGroup
	over    chan struct{} // closed when nothing is published any more

	mu  sync.Mutex // guards what follows
	cut *cut       // nil if the answer is not cut off
}

// cut is why an answer is cut off.
type cut struct {
	state runs.State
	code  string // for readers
	err   error  // for the log
}

// The codes of cuts, beside those that Owned.Why has.
const (
	codeApplication = "application" // it has gone, or its answer did not come to its end
	codeLongest     = "longest"
	codeLargest     = "largest"
	codeShutdown    = "shutdown"
	codeLog         = "log" // it could not be kept
)

func cutBecause(code, format string, args ...any) *cut {
	return &cut{runs.Broken, code, fmt.Errorf(format, args...)}
}

// record has next answer a request, and records the answer if it is an event stream.
func (rec *Recorder) record(w http.ResponseWriter, r *http.Request, owned *runs.Owned, next Next) (err error) {
	r.Header.Set("Accept-Encoding", "identity")
	for _, name := range []string{"Upgrade", "Http2-Settings"} {
		r.Header.Del(name) // an offer of HTTP/2, which no recorded answer takes
	}
	if r.Method != http.MethodGet { // for which alone a Range means something
		r.Header.Del("Range")
		r.Header.Del("If-Range")
	}
	out, cancel := outliving(r)
	defer cancel()
	g := &recording{rec: rec, owned: owned, first: newFirst(w, r), cancel: cancel, client: r.Context(), header: w.Header().Clone(), over: make(chan struct{})}
	g.feed = newFeed()
	g.work.Go(g.watch)
	var panicked any
	func() {
		defer func() { panicked = recover() }()
		err = next(g, out)
	}()
	if err == nil && panicked == nil && !g.decided && g.why() == nil {
		g.WriteHeader(http.StatusOK)
	}
	cut := g.finish(context.WithoutCancel(out.Context()), err, panicked)
	if panicked == nil {
		panicked = g.first.panicked()
	}
	trailers(w.Header(), g.header)
	switch aborted := panicked == http.ErrAbortHandler; { //nolint:errorlint // it is what was panicked with
	case (aborted || panicked == nil) && !g.decided && g.why() != nil:
		return rec.streams.Refuse(w, unbegun(g.why())) // that it is cut off is the recorder's doing
	case panicked != nil && (!g.stream || !aborted):
		panic(panicked)
	case cut:
		panic(http.ErrAbortHandler) // a cut must not look like an end
	case g.stream:
		return nil
	}
	return err
}

// unbegun is the problem of an answer that was cut off before it began.
func unbegun(why *cut) error {
	if why.state == runs.Stopped {
		return problem.Conflict.Because("the answer was %s before it began", why.code)
	}
	return problem.Unavailable.Because("the answer was cut off before it began: %w", why.err)
}

// watch ends the answer when it has to.
func (g *recording) watch() {
	longest := time.NewTimer(g.rec.config.Longest)
	defer longest.Stop()
	select {
	case <-g.over:
		return
	case <-longest.C:
		g.end(cutBecause(codeLongest, "it took longer than %s", g.rec.config.Longest))
	case <-g.owned.Done():
		g.end(g.told())
	case <-g.rec.hub.Exit():
		drain := time.NewTimer(g.rec.config.Drain)
		defer drain.Stop()
		select {
		case <-g.over:
			return
		case <-g.owned.Done():
		case <-drain.C:
		}
		g.end(cutBecause(codeShutdown, "the server is shutting down"))
	}
}

// told is how the run has to end, once Owned.Done is closed.
func (g *recording) told() *cut {
	state, reason := g.owned.Why()
	switch {
	case g.owned.Lost():
		return cutBecause(codeLog, "%w", runs.ErrLost)
	case state == runs.Broken:
		return cutBecause(codeShutdown, "%s", reason)
	}
	return &cut{state, reason, errors.New(reason)}
}

// end cuts the application's connection. The first reason counts.
func (g *recording) end(why *cut) {
	g.mu.Lock()
	if g.cut == nil {
		g.cut = why
	}
	g.mu.Unlock()
	g.cancel()
	g.feed.close(why.err)
}

// why is how the recording was cut off, nil if it was not.
func (g *recording) why() *cut {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cut
}

// finish ends the run when the application's answer is over. It reports whether the client
// is there still, and has to see that its answer is not whole.
func (g *recording) finish(ctx context.Context, err error, panicked any) (cut bool) {
	defer g.work.Wait()
	switch {
	case !g.stream && !g.decided:
		g.release()
		return g.first.end() && err == nil
	case !g.stream:
		return g.first.end()
	case panicked != nil:
		g.end(cutBecause(codeApplication, "the application's connection was cut"))
	case err != nil:
		g.end(cutBecause(codeApplication, "the application's answer did not come to its end: %w", err))
	default:
		g.feed.close(io.EOF)
	}
	<-g.over
	return g.conclude(ctx, g.why())
}

// conclude ends the run in the log and for the first reader.
func (g *recording) conclude(ctx context.Context, why *cut) (cut bool) {
	run, state, code := g.owned.Run(), runs.Done, ""
	if why != nil {
		state, code = why.state, why.code
		level := slog.LevelWarn
		if state == runs.Stopped {
			level = slog.LevelInfo
		}
		g.rec.logger.Log(ctx, level, "a recorded answer was cut off",
			slog.String("channel", run.Channel), slog.String("state", string(state)), slog.Any("reason", why.err))
	}
	g.owned.Conclude()
	marks := g.rec.marksOf(state, g.header, code)
	whole := betweenEvents(g.tail)
	for _, m := range marks {
		if whole {
			g.first.add(step{data: sse.AppendEvent(nil, &sse.Event{Type: m.Type, Data: []byte(m.Data)}), flush: true})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	if err := g.owned.End(ctx, state, code, marks); err != nil {
		g.rec.logger.Error("the end of a recorded answer could not be recorded; it is when the log is back",
			slog.String("channel", run.Channel), slog.Any("error", err))
	}
	return g.first.end() || state == runs.Broken || state == runs.Stopped && !whole
}

// betweenEvents reports whether a stream that ends so has only whole events.
func betweenEvents(tail []byte) bool {
	s := strings.ReplaceAll(string(tail), "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	return s == "" || strings.HasSuffix(s, "\n\n")
}

// release gives the run up: there is nothing to record. The answer does not wait for that.
func (g *recording) release() {
	close(g.over)
	channel := g.owned.Run().Channel
	g.owned.ReleaseSoon(func(err error) {
		g.rec.logger.Warn("an answer that is not recorded is still known as one that may be",
			slog.String("channel", channel), slog.Any("error", err))
	})
}

// endPatience bounds how long the end of a run waits for the log.
const endPatience = 10 * time.Second

// Header implements http.ResponseWriter.
func (g *recording) Header() http.Header { return g.header }

// WriteHeader implements http.ResponseWriter.
func (g *recording) WriteHeader(status int) {
	if g.decided || g.why() != nil { // what it says of being cut off is not its answer
		return
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %d", status)) // as net/http does, on the handler's goroutine
	}
	informs := status >= 100 && status < 200 && status != http.StatusSwitchingProtocols
	if !informs {
		g.decided = true
		if g.isStream(status) {
			g.begin()
		} else {
			// It is like any other answer from here on.
			g.release()
			g.first.wait()
			context.AfterFunc(g.client, g.cancel)
		}
	}
	g.first.add(step{status: status, header: g.header.Clone()})
}

// isStream reports whether an answer is recorded.
func (g *recording) isStream(status int) bool {
	media, _, err := mime.ParseMediaType(g.header.Get("Content-Type"))
	if status != http.StatusOK || err != nil || media != "text/event-stream" {
		if status == http.StatusOK {
			g.rec.warnNoStream(g.owned.Run().Channel, g.header.Get("Content-Type"))
		}
		return false
	}
	if coding := g.header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		g.rec.logger.Error("an answer is not recorded, because it is compressed, though it was asked for without",
			slog.String("channel", g.owned.Run().Channel), slog.String("encoding", coding))
		return false
	}
	return true
}

// begin begins to record.
func (g *recording) begin() {
	g.stream = true
	g.header.Del("Content-Length") // its end is that of the run: a mark may follow, and who has all of it may ask for the next
	kept, cut := g.rec.keptHeader(g.header), g.rec.marksOf(runs.Broken, g.header, codeApplication)
	g.work.Go(func() {
		defer close(g.over)
		if err := g.owned.Answered(context.Background(), http.StatusOK, kept, cut); err != nil {
			g.end(cutBecause(codeLog, "it could not be kept: %w", err))
			return
		}
		g.publish()
	})
}

// Write implements io.Writer.
func (g *recording) Write(p []byte) (int, error) {
	if !g.decided {
		g.WriteHeader(http.StatusOK)
	}
	if !g.decided {
		return 0, errOver
	}
	if !g.stream {
		if !g.first.add(step{data: append([]byte(nil), p...)}) {
			return 0, io.ErrClosedPipe
		}
		return len(p), nil
	}
	if g.size += len(p); g.size > g.rec.config.Largest {
		g.end(cutBecause(codeLargest, "it has more than %d bytes", g.rec.config.Largest))
		return 0, errOver
	}
	if _, err := g.feed.Write(p); err != nil {
		return 0, err
	}
	g.tail = append(g.tail, p[max(0, len(p)-4):]...)
	g.tail = g.tail[max(0, len(g.tail)-4):]
	g.first.add(step{data: append([]byte(nil), p...)})
	return len(p), nil
}

// FlushError is for http.ResponseController.
func (g *recording) FlushError() error {
	if !g.decided {
		g.WriteHeader(http.StatusOK)
	}
	if !g.decided {
		return errOver
	}
	g.first.add(step{flush: true})
	return nil
}

// Flush implements http.Flusher.
func (g *recording) Flush() { _ = g.FlushError() }

// trailers copies what an application has set in its header after the body.
func trailers(to, from http.Header) {
	for name, values := range from {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			to[name] = values
		}
	}
	for _, list := range from["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); from[name] != nil {
				to[name] = from[name]
			}
		}
	}
}
