package takeover

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/runs"
)

// RecordConfig says how answers are recorded. Zero fields are defaults.
type RecordConfig struct {
	// OnActive says what becomes of a request for a run that is going on: Join, Replace or
	// Refuse. Default: Join.
	OnActive string
	// Longest is how long an answer may take, Largest how many bytes it may have, before it
	// is cut off. Default: 30m and 4 MiB.
	Longest time.Duration
	Largest int
	// Keep is how long it is kept after its end. Default: 1h.
	Keep time.Duration
	// MaxBody bounds the body of a request. Default: 10 MiB.
	MaxBody int
	// Headers are the header fields of the answer that are kept with it. Default:
	// DefaultHeaders.
	Headers []string
	// Broken and Stopped are what readers get last if the answer is cut off or stopped.
	// Default: nil, which depends on the answer: see marksOf.
	Broken, Stopped []runs.Mark
	// Drain is how long an answer may go on while the server shuts down. Default: 5s.
	Drain time.Duration
}

// The values of RecordConfig.OnActive.
const (
	Join    = "join"
	Replace = "replace"
	Refuse  = "refuse"
)

// Defaults of RecordConfig.
const (
	DefaultLongest = 30 * time.Minute
	DefaultLargest = 4 << 20
	DefaultKeep    = time.Hour
	DefaultMaxBody = 10 << 20
	DefaultDrain   = 5 * time.Second
)

// DefaultHeaders are the header fields that are kept with a recorded answer: what clients
// of such answers look at.
var DefaultHeaders = []string{"X-Vercel-Ai-Ui-Message-Stream", "X-Vercel-Ai-Data-Stream", "X-Workflow-Run-Id", "X-Run-Id", "Content-Location", "Location"}

func (c *RecordConfig) fill() {
	if c.OnActive == "" {
		c.OnActive = Join
	}
	if c.Longest == 0 {
		c.Longest = DefaultLongest
	}
	if c.Largest == 0 {
		c.Largest = DefaultLargest
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Drain == 0 {
		c.Drain = DefaultDrain
	}
	if c.Headers == nil {
		c.Headers = DefaultHeaders
	}
}

// History is what a channel has to keep for an answer.
func (c RecordConfig) History() broker.Policy {
	c.fill()
	return broker.Policy{Events: broker.Unlimited, Age: c.Longest + c.Keep, Bytes: c.Largest + c.Largest/4 + historySlack}
}

const historySlack = 256 << 10

// Stops reports whether a request stops a run.
func Stops(r *http.Request) bool {
	_, given := r.URL.Query()["stop"]
	return r.Method == http.MethodDelete && given
}

// Refuse answers a request with the problem of err.
func (rec *Recorder) Refuse(w http.ResponseWriter, err error) error {
	return rec.streams.Refuse(w, err)
}

// Recorder records the answers of an application, and serves them. It is safe for concurrent
// use.
type Recorder struct {
	config  RecordConfig
	streams *httpapi.Handler
	hub     *hub.Hub
	logger  *slog.Logger
	bodies  bodies
	warned  sync.Once
	unnamed sync.Once
}

// WarnNoChannel says once that the answer to a request is not recorded, because the request
// does not say on which channel.
func (rec *Recorder) WarnNoChannel(r *http.Request) {
	rec.unnamed.Do(func() {
		rec.logger.Warn("an answer is not recorded, because a placeholder of its channel has no value; others are not mentioned",
			slog.String("method", r.Method), slog.String("path", r.URL.Path))
	})
}

// warnNoStream says once that an answer is not recorded, because it is no event stream.
func (rec *Recorder) warnNoStream(channel, media string) {
	rec.warned.Do(func() {
		rec.logger.Warn("an answer is not recorded, because it is no text/event-stream; others are not mentioned",
			slog.String("channel", channel), slog.String("content_type", media))
	})
}

// NewRecorder returns a Recorder on the hub of streams, by whose rules readers are served.
func NewRecorder(streams *httpapi.Handler, c RecordConfig, logger *slog.Logger) *Recorder {
	c.fill()
	return &Recorder{config: c, streams: streams, hub: streams.Hub(), logger: logger, bodies: bodies{most: maxBodies, mostOf: maxBodiesOf}}
}

// Records reports whether the answer of a request may be recorded: it is one that an
// application answers with a stream. A Range does not matter: an application may ignore it,
// and a part of something, which is status 206, is no stream.
func Records(r *http.Request) bool {
	switch r.Method {
	case http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace, http.MethodConnect:
		return false
	}
	upgrade := r.Header.Get("Upgrade")
	return upgrade == "" || strings.EqualFold(upgrade, "h2c")
}

// contended is how long a request goes on to claim a run that others claim, too, and that it
// does not hear of.
const contended = 10 * time.Second

// Serve has next answer a request, and records the answer on a channel if it is an event
// stream; or it serves the run that the channel has: one that is going on, or that the same
// request began. The application is not asked then.
func (rec *Recorder) Serve(w http.ResponseWriter, r *http.Request, channel string, next Next) error {
	asked, r, err := rec.read(r)
	if err != nil {
		return rec.streams.Refuse(w, err)
	}
	defer r.Body.Close()
	for patience := time.Now().Add(contended); time.Now().Before(patience); {
		if err := r.Context().Err(); err != nil {
			return err
		}
		run := rec.hub.Runs().Get(channel)
		switch {
		case run == nil:
		case run.State.Ended() && (run.Ask != asked.digest || asked.anew):
		case rec.isOver(run): // and it is about to be known how
			if err := rec.change(r.Context(), run); err != nil {
				return err
			}
			continue
		case run.State == runs.Active && rec.config.OnActive == Join, run.State.Ended():
			return rec.replay(w, r, run)
		case run.State == runs.Active && rec.config.OnActive == Refuse:
			return rec.streams.Refuse(w, problem.Conflict.Because("an answer is being recorded there; wait for its end, or stop it with DELETE …?stop"))
		default:
			if rec.config.OnActive == Replace {
				if err := rec.replace(r, run); err != nil {
					return rec.streams.Refuse(w, err)
				}
				asked.anew = true
			}
			// While it is Asking there is no telling what comes of it: perhaps no run.
			if err := rec.change(r.Context(), run); err != nil {
				return err
			}
			patience = time.Now().Add(contended)
			continue
		}
		owned, other, err := rec.claim(r, channel, asked, run)
		if err != nil {
			return rec.streams.Refuse(w, err)
		}
		if owned != nil {
			return rec.record(w, r, owned, next)
		}
		if other != nil {
			patience = time.Now().Add(contended)
		}
	}
	return rec.streams.Refuse(w, problem.Contended.Because("the run of that channel changes all the time; try again"))
}

// replace stops a run. One that is not answered yet is left to whoever may not stop it:
// anybody may ask, and what comes of it may be no run.
func (rec *Recorder) replace(r *http.Request, run *runs.Run) error {
	if err := rec.streams.MayStop(r, run.Channel, run); err != nil {
		if run.State == runs.Asking {
			return nil
		}
		return err
	}
	if err := rec.hub.StopRun(r.Context(), run, "replaced"); !errors.Is(err, runs.ErrNoRun) {
		return err
	}
	return nil
}

// isOver reports whether a run that is known as active has come to its end: its first reader
// is told first, then the channel is closed, and so readers may be here before the log has how
// it has ended.
func (rec *Recorder) isOver(run *runs.Run) bool {
	if run.State != runs.Active {
		return false
	}
	if rec.hub.Runs().Concludes(run) {
		return true
	}
	channel, _ := rec.hub.Broker().Channel(run.Channel)
	return !channel.Closed.IsZero()
}

// change waits until a run is not as it was, as long as the client does.
func (rec *Recorder) change(ctx context.Context, was *runs.Run) error {
	_, err := rec.hub.Runs().Wait(ctx, was.Channel, was)
	return err
}

func (rec *Recorder) claim(r *http.Request, channel string, asked *asked, was *runs.Run) (*runs.Owned, *runs.Run, error) {
	who := rec.who(r)
	return rec.hub.Runs().Claim(context.WithoutCancel(r.Context()), runs.Run{
		Channel: channel, Ask: asked.digest, User: who.User, Share: digest(hub.ShareOf(who, rec.streams.Host().ClientIP(r))),
		Longest: rec.config.Longest, Keep: rec.config.Keep,
	}, was)
}

// who is who makes a request, as far as the handler's own credentials tell: the
// application, which decides what it answers, may know others.
func (rec *Recorder) who(r *http.Request) *access.Caller {
	who, err := rec.streams.Caller(r)
	if err != nil {
		return access.AnonymousCaller()
	}
	return who
}

// keptHeader is what is kept of an answer's header.
func (rec *Recorder) keptHeader(h http.Header) map[string][]string {
	var kept map[string][]string
	for name, values := range h {
		if slices.ContainsFunc(rec.config.Headers, func(s string) bool { return strings.EqualFold(s, name) }) {
			if kept == nil {
				kept = make(map[string][]string)
			}
			kept[name] = slices.Clone(values)
		}
	}
	return kept
}

// marksOf are what readers of an answer get last, in the terms that they understand.
func (rec *Recorder) marksOf(state runs.State, h http.Header, reason string) []runs.Mark {
	ai := h.Get("X-Vercel-Ai-Ui-Message-Stream") != ""
	switch {
	case state == runs.Done:
		return nil
	case state == runs.Stopped && rec.config.Stopped != nil:
		return rec.config.Stopped
	case state == runs.Broken && rec.config.Broken != nil:
		return rec.config.Broken
	case state == runs.Stopped && ai:
		return []runs.Mark{{Data: `{"type":"abort"}`}, {Data: "[DONE]"}}
	case ai:
		return []runs.Mark{{Data: `{"type":"error","errorText":"the answer was cut off"}`}, {Data: "[DONE]"}}
	case state == runs.Stopped:
		return []runs.Mark{{Type: "stopped", Data: `{"reason":` + quote(reason) + `}`}}
	}
	return []runs.Mark{{Type: "broken", Data: `{"reason":` + quote(reason) + `}`}}
}
