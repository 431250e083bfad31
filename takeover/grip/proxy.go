// Package grip is the part of the GRIP protocol that holds streams: an application
// behind a proxy answers with headers that say which channels a client reads, and
// publishes to them over the proxy's endpoint.
package grip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
	"github.com/evstream/caddy-evstream/takeover"
	"github.com/evstream/caddy-evstream/takeover/internal/answers"
)

// Config says how a Proxy works.
type Config struct {
	Streams *httpapi.Handler // serves the streams, with its limits
	Keys    *Keys
	Logger  *slog.Logger
	// Publisher serves requests to Publish+"/publish/", which the application never gets.
	// nil for none.
	Publisher *Publisher
	Publish   string
	// Prepare makes a request of the proxy's own ready for the handler behind. from is
	// the client's request, which may be over. Default: it is ready.
	Prepare func(w http.ResponseWriter, own, from *http.Request) *http.Request
}

// Proxy passes requests on to an application, and does what its answers say. It is
// immutable and safe for concurrent use.
type Proxy struct {
	Config
	asks, gone *turns // of requests that no client waits for
}

// New returns a Proxy.
func New(c Config) *Proxy {
	if c.Prepare == nil {
		c.Prepare = func(_ http.ResponseWriter, own, _ *http.Request) *http.Request { return own }
	}
	return &Proxy{c, newTurns(maxAsks, math.MaxInt), newTurns(maxGone, maxGoneWaiting)}
}

var errAnswer = problem.BadAnswer.Because("the application answered with GRIP headers that cannot be followed; the log of the server has the reason")

// Serve has the application answer a request, and serves the stream if the answer says
// that it is to be held. The error is that of next, or one for the server to answer.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, next takeover.Next) error {
	if p.Publisher != nil {
		if path, ok := strings.CutPrefix(r.URL.Path, p.Publish); ok && (path == "/publish/" || path == "/publish") {
			p.Publisher.ServeHTTP(w, r)
			return nil
		}
	}
	a := instructing{method: r.Method, buffers: r.Method == http.MethodGet || r.Method == http.MethodPost}
	held, err := answers.Ask(w, r, &answers.Dialect{Fields: fields, Prepare: p.sign, Decide: a.decide, MaxBody: maxAnswer, TooLong: errTooLong}, next)
	if held == nil {
		return err
	}
	hold := &holding{host: r.Host, at: r.URL, instruct: a.instruct, body: held.Body}
	if held.Err == nil {
		held.Err = hold.check()
	}
	for pages := 0; held.Err == nil && !hold.instruct.Hold && hold.instruct.Next != ""; pages++ {
		if pages == maxPages || len(hold.body) > maxPagesBytes {
			held.Err = fmt.Errorf("%s leads to more than %d pages or %d bytes", headerLink, maxPages, maxPagesBytes)
			break
		}
		held.Err = p.page(r, next, hold)
	}
	if held.Err != nil {
		p.Logger.Error("the answer of an application with GRIP cannot be followed",
			slog.String("method", r.Method), slog.String("uri", r.RequestURI), slog.Any("reason", held.Err))
		return p.Streams.Refuse(w, errAnswer)
	}
	a.expose(held.Header)
	if !hold.instruct.Hold { // the last page ends it
		header := w.Header()
		clear(header)
		maps.Copy(header, held.Header)
		header.Del("Content-Length")
		w.WriteHeader(a.status)
		_, err := w.Write(hold.body) //nolint:gosec // the application's own answer, with its headers
		return err
	}
	answers.RemoveDescribing(held.Header)
	return p.hold(w, r, next, hold, held.Header)
}

// Bounds of what a client gets before its stream is held.
const (
	maxPages      = 1000
	maxPagesBytes = 4 << 20
)

// holding is what an application has said about one client so far.
type holding struct {
	host     string   // of the application, as its client says it
	at       *url.URL // of the newest answer
	instruct *Instruct
	body     []byte // what the client gets first
	next     *url.URL
	gone     *url.URL
}

// check resolves the links of the newest answer, and reports which cannot be followed.
func (h *holding) check() (err error) {
	if h.next, err = h.resolve(h.instruct.Next); err != nil {
		return err
	}
	gone, err := h.resolve(h.instruct.Gone)
	if gone != nil || h.instruct.Hold { // a page says nothing of it
		h.gone = gone
	}
	return err
}

func (h *holding) resolve(ref string) (*url.URL, error) {
	if ref == "" {
		return nil, nil
	}
	u, err := url.Parse(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", headerLink, err)
	}
	if u.Host != "" && !strings.EqualFold(u.Host, h.host) {
		return nil, fmt.Errorf("%s leads to %q: links are followed to the application itself", headerLink, clip(u.Host))
	}
	to := h.at.ResolveReference(u)
	if to.Opaque != "" || !strings.HasPrefix(to.Path, "/") {
		return nil, fmt.Errorf("%s leads to %q: links are followed to a path of the application", headerLink, clip(ref))
	}
	to.Scheme, to.Host, to.User, to.Fragment = h.at.Scheme, h.at.Host, nil, ""
	return to, nil
}

// sign has a request say that it comes through this proxy.
func (p *Proxy) sign(r *http.Request) {
	r.Header.Set(headerSig, p.Keys.Sign(time.Now()))
	r.Header.Set(headerFeature, Features)
}

// ask has the application answer a request of the proxy's own. It is not the client's: it
// has neither cookies nor credentials.
func (p *Proxy) ask(ctx context.Context, from *http.Request, next takeover.Next, method string, to *url.URL, last []string) (*replyWriter, error) {
	r := from.Clone(ctx)
	r.Method, r.URL, r.RequestURI = method, to, to.RequestURI()
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer, r.Form, r.PostForm, r.MultipartForm = http.NoBody, 0, nil, nil, nil, nil, nil
	r.Header = http.Header{"Accept-Encoding": {"identity"}}
	if len(last) > 0 {
		r.Header[headerLast] = last
	}
	p.sign(r)
	reply := &replyWriter{header: make(http.Header)}
	if err := reply.ask(p.Prepare(reply, r, from), next); err != nil {
		return nil, err
	}
	reply.WriteHeader(http.StatusOK)
	switch {
	case reply.err != nil:
		return nil, reply.err
	case reply.status > 299:
		return nil, fmt.Errorf("the answer to %s %s is %d", method, clip(to.RequestURI()), reply.status)
	case !answers.IsIdentity(reply.header):
		return nil, errors.New("the answer is compressed, though it was asked for without")
	}
	return reply, nil
}

// page follows the next link of h, from an answer that is not to be held.
func (p *Proxy) page(from *http.Request, next takeover.Next, h *holding) error {
	ctx, cancel := context.WithTimeout(from.Context(), askTimeout)
	defer cancel()
	return p.follow(ctx, from, next, h, nil)
}

// follow asks what the next link of h leads to, and adds the answer to h.
func (p *Proxy) follow(ctx context.Context, from *http.Request, next takeover.Next, h *holding, last []string) error {
	reply, err := p.ask(ctx, from, next, http.MethodGet, h.next, last)
	if err != nil {
		return fmt.Errorf("%s: %w", headerLink, err)
	}
	i, err := ReadInstruct(reply.header)
	if err != nil {
		return err
	}
	h.at, h.instruct, h.body = h.next, i, append(h.body, reply.body...)
	return h.check()
}

// opening is what the client gets first, as filters of the response have it. It is whole.
func (h *holding) opening() ([]byte, error) {
	subs := newSubscriptions(h.instruct)
	for n := range h.instruct.Channels {
		if !h.instruct.Channels[n].has(buildID) {
			continue
		}
		body, err := subs.addID(nil, h.body, func(name string) (string, bool) {
			encoded, err := ChannelName(name)
			if err != nil || subs.byName[encoded] == nil {
				return "", false
			}
			return subs.byName[encoded].PrevID, subs.byName[encoded].HasPrev
		})
		if err != nil {
			return nil, fmt.Errorf("its body: %w", err)
		}
		return whole(body), nil
	}
	return whole(h.body), nil
}

// hold serves the stream.
func (p *Proxy) hold(w http.ResponseWriter, r *http.Request, next takeover.Next, h *holding, header http.Header) error {
	opening, err := h.opening()
	if err != nil {
		p.Logger.Error("the answer of an application with GRIP cannot be followed",
			slog.String("method", r.Method), slog.String("uri", r.RequestURI), slog.Any("reason", err))
		return p.Streams.Refuse(w, errAnswer)
	}
	h.body = nil
	if len(opening) == 0 {
		opening = []byte(":\n")
	}
	caller := &access.Caller{Method: access.ByHandoff, User: h.instruct.Meta[metaUser]}
	s := newSession(h.instruct, caller, p.Logger)
	held := &httpapi.Held{
		Caller:    caller,
		Subscribe: broker.SubscribeOptions{Channels: s.subs.Load().names(), OwnIDs: true},
		Raw:       true,
		Retries:   true,
		Header:    header,
		Opening:   opening,
		Rewriter:  s,
		Audience:  s,
		Judge:     stay,
	}
	if h.next != nil || h.gone != nil {
		l := &link{proxy: p, session: s, next: next, from: r.Clone(context.WithoutCancel(r.Context())), holding: h}
		l.share = hub.ShareOf(caller, p.Streams.Host().ClientIP(r))
		l.from.Body = http.NoBody
		held.Judge = l.judge
		held.Begin = l.begin
	}
	return p.Streams.Hold(w, r, held)
}

// stay is the httpapi.Judge of a stream that needs the application no more: a reload does
// not change what that has decided.
func stay(_ *httpapi.Handler, r *http.Request) (*access.Caller, error) { return auth.Previous(r), nil }

// judge is the httpapi.Judge of a stream whose links lead to the handlers of the
// configuration that is replaced: its client comes again.
func (l *link) judge(_ *httpapi.Handler, r *http.Request) (*access.Caller, error) {
	l.stream.Drain(reloadDrain, stream.ReasonReload)
	return auth.Previous(r), nil
}

// reloadDrain is over what time the clients of streams with links come again after a
// reload.
const reloadDrain = 5 * time.Second
