package grip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
	"github.com/evstream/caddy-evstream/takeover"
)

// Times of the requests that follow links.
const (
	askTimeout  = 30 * time.Second
	askPause    = time.Second // between two of one stream
	askTries    = 4
	goneTimeout = 10 * time.Second
	goneWait    = time.Minute // for a turn
)

// Bounds of the requests of a proxy that no client waits for: how many there are at a time,
// and how many that tell of clients which have gone may wait. Those that ask again are as
// many as there are streams.
const (
	maxAsks        = 64
	maxGone        = 16
	maxGoneWaiting = 10_000
)

// link follows the links of one stream, on a goroutine that ends with the stream.
type link struct {
	proxy   *Proxy
	session *session
	stream  *stream.Session
	next    takeover.Next
	from    *http.Request // of the client
	share   string        // of the client
	holding *holding
}

// begin starts the goroutine.
func (l *link) begin(s *stream.Session) {
	l.stream = s
	done := s.Done()
	go l.run(done)
}

// run follows the links until the stream has ended.
func (l *link) run(done <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	if l.session.linked {
		go func() { // the requests of the stream end with it
			defer close(ended)
			select {
			case <-done:
				cancel()
			case <-ctx.Done():
			}
		}()
		l.refresh(ctx, done)
		cancel()
		<-ended
	}
	<-done
	if gone := l.holding.gone; gone != nil {
		l.proxy.callGone(l.from, l.next, gone, l.share) // and l, with what its client has not got, is free
	}
}

// refresh asks the application whenever it is time, or items are missing, until done is
// closed or the application ends the stream.
func (l *link) refresh(ctx context.Context, done <-chan struct{}) {
	timer := time.NewTimer(l.holding.instruct.NextAfter)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
			if l.session.since() {
				timer.Reset(l.holding.instruct.NextAfter)
				continue
			}
		case <-l.session.asked:
			l.session.begin()
		}
		if !l.askAgain(ctx) {
			return
		}
		timer.Reset(l.holding.instruct.NextAfter)
		if !pause(ctx, askPause) {
			return
		}
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// askAgain asks the application once, or a few times if it fails. False: the stream is to
// end, or has ended.
func (l *link) askAgain(ctx context.Context) bool {
	var err error
	for try := range askTries {
		if try > 0 && !pause(ctx, askPause<<(try-1)+rand.N(askPause)) { //nolint:gosec // it spreads load and guards nothing
			return false
		}
		h := &holding{host: l.holding.host, at: l.holding.at, instruct: l.holding.instruct, next: l.holding.next, gone: l.holding.gone}
		if err = l.once(ctx, h); err != nil {
			continue
		}
		l.holding = h
		return l.take(h)
	}
	if ctx.Err() == nil {
		l.proxy.Logger.Error("an application did not answer for a stream that it has handed over: the stream ends",
			slog.String("uri", clip(l.holding.next.RequestURI())), slog.Any("reason", err))
		l.stream.Close(stream.ReasonError)
	}
	return false
}

// once follows next links up to an answer that holds the stream, or has none.
func (l *link) once(ctx context.Context, h *holding) error {
	release, err := l.proxy.asks.acquire(ctx, l.share)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for pages := 0; ; pages++ {
		if pages == maxPages || len(h.body) > maxPagesBytes {
			return fmt.Errorf("%s leads to more than %d pages or %d bytes", headerLink, maxPages, maxPagesBytes)
		}
		if err := l.proxy.follow(ctx, l.from, l.next, h, l.session.lastIDs()); err != nil {
			return err
		}
		if h.instruct.Hold || h.next == nil {
			return nil
		}
	}
}

// take has the client get what the application has answered. False: the stream ends.
func (l *link) take(h *holding) bool {
	body, err := h.opening()
	h.body = nil
	if err != nil {
		l.proxy.Logger.Error("the answer of an application with GRIP cannot be followed", slog.Any("reason", err))
		l.stream.Close(stream.ReasonError)
		return false
	}
	if !h.instruct.Hold {
		l.session.answered(nil, body)
		l.session.over.Store(true)
		l.stream.Wake()
		return false
	}
	if err := l.join(h.instruct); err != nil {
		l.proxy.Logger.Warn("a stream cannot read what its application says by now: it ends", slog.Any("error", err))
		l.stream.Close(stream.ReasonError)
		return false
	}
	if !l.session.answered(h.instruct, body) {
		l.stream.Close(stream.ReasonSlow)
		return false
	}
	l.stream.Wake()
	return true
}

// join has the stream read the channels of an answer.
func (l *link) join(i *Instruct) error {
	was, is := l.session.subs.Load().names(), newSubscriptions(i).names()
	for _, name := range is {
		if !slices.Contains(was, name) {
			if err := l.stream.Join(name, broker.Start{}); err != nil {
				return err
			}
		}
	}
	for _, name := range was {
		if !slices.Contains(is, name) {
			l.stream.Leave(name)
		}
	}
	return nil
}

// callGone tells the application that a client has gone, or the log that it cannot be told:
// too many have gone at once, or the application does not answer.
func (p *Proxy) callGone(from *http.Request, next takeover.Next, gone *url.URL, share string) {
	ctx, cancel := context.WithTimeout(context.Background(), goneWait)
	defer cancel()
	release, err := p.gone.acquire(ctx, share)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), goneTimeout)
		defer cancel()
		_, err = p.ask(ctx, from, next, http.MethodPost, gone, nil)
		release()
	}
	if n := p.gone.refused(time.Now()); n > 0 {
		p.Logger.Warn("an application was not told of clients that have gone: too many went at once", slog.Int("clients", n))
	}
	if err != nil && !errors.Is(err, errTooManyWait) {
		p.Logger.Warn("an application could not be told that a client has gone", slog.String("uri", clip(gone.RequestURI())), slog.Any("reason", err))
	}
}
