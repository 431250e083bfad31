package evstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/takeover"
)

// takeoverHandler answers all requests of a Handler that serves no channels of its own: it
// has the handler behind answer, and may take the answer over.
type takeoverHandler interface {
	Serve(w http.ResponseWriter, r *http.Request, next takeover.Next) error
}

// takesOver reports whether the handler serves no channels, but takes over what the
// handler behind it answers.
func (h *Handler) takesOver() bool { return h.Handoff != nil || h.recorded() }

// kind is what the handler serves: a stream goes on only with a handler of its kind.
func (h *Handler) kind() string {
	switch {
	case h.Handoff != nil:
		return "handoff"
	case h.recorded():
		return "record"
	}
	return "channels"
}

func (h *Handler) recorded() bool { return h.Record != nil || h.Resume != nil }

// needsRules reports whether the handler's own rules decide what is allowed.
func (h *Handler) needsRules() bool { return h.Handoff == nil }

// checkTakeover reports what cannot stand beside the words that have the handler take over.
// The error begins with the word of a Caddyfile that is wrong.
func (h *Handler) checkTakeover() error {
	switch {
	case !h.takesOver():
		return nil
	case h.Mount != "":
		return errors.New("mount cannot stand beside handoff, record or resume: they serve no channels; give these an evstream block of their own")
	case h.Handoff != nil:
		return h.checkHandoff()
	case h.Console:
		return errors.New("console cannot stand beside record and resume: no channels are served here; give it an evstream block with a mount")
	}
	return h.checkRecord()
}

func (h *Handler) checkHandoff() error {
	const apart = "they take over in different ways; write an evstream block for each"
	const decides = "the application decides who gets a stream"
	for _, word := range []struct {
		name  string
		given bool
		why   string
	}{
		{"record", h.Record != nil, apart},
		{"resume", h.Resume != nil, apart},
		{"allow", len(h.Allow) > 0, "the application decides; channels that are served by rules need an evstream block of their own"},
		{"bearer", len(h.Bearers) > 0, decides},
		{"console", h.Console, "no channels are served here; give it an evstream block with a mount"},
		{"jwt", h.JWT != nil, decides},
		{"cookie", h.Cookie != "", decides},
		{"insecure_query_token", h.InsecureQueryToken != "", decides},
		{"tickets", h.Tickets != nil, decides},
		{"caddy_auth", h.CaddyAuth, decides},
		{"verify", h.Verify != nil, decides},
		{"cors", len(h.CORS) > 0, "the application says which origins may read its answer"},
		{"ignore_query", len(h.IgnoreQuery) > 0, "all query parameters are the application's"},
		{"max_body", h.MaxBody != 0, "the body is the application's; request_body bounds it"},
	} {
		if word.given {
			return fmt.Errorf("%s cannot stand beside handoff: %s", word.name, word.why)
		}
	}
	return nil
}

// Bounds of a recorded answer.
const (
	minLargest = 64 << 10
	maxLargest = 64 << 20
	maxLongest = 24 * time.Hour
	maxKeep    = 7 * 24 * time.Hour
)

func (h *Handler) checkRecord() error {
	if len(h.IgnoreQuery) > 0 {
		return errors.New("ignore_query means nothing beside record and resume: they look at startIndex and starting_after only")
	}
	for _, name := range h.recordedChannels() {
		if _, err := parseChannelTemplate(name); err != nil {
			return err
		}
	}
	if h.Resume != nil && strings.Contains(h.Resume.Channel, "{"+bodyPrefix) {
		return fmt.Errorf("resume answers GET, which has no body: its channel cannot have {%s…}; the path, the query and header fields can name it", bodyPrefix)
	}
	c := h.Record
	if c == nil {
		return nil
	}
	switch largest, longest, keep := c.Largest, time.Duration(c.Longest), time.Duration(c.Keep); {
	case c.OnActive != "" && c.OnActive != takeover.Join && c.OnActive != takeover.Replace && c.OnActive != takeover.Refuse:
		return fmt.Errorf("on_active must be \"join\", \"replace\" or \"refuse\", not %q", c.OnActive)
	case largest != 0 && (largest < minLargest || largest > maxLargest):
		return errors.New("largest must be from 64KiB to 64MiB")
	case longest != 0 && (longest < time.Second || longest > maxLongest):
		return fmt.Errorf("longest must be from 1s to 24h, not %s", longest)
	case keep != 0 && (keep < time.Second || keep > maxKeep):
		return fmt.Errorf("keep must be from 1s to 168h, not %s", keep)
	}
	if err := c.Broken.check("broken_event"); err != nil {
		return err
	}
	return c.Stopped.check("stopped_event")
}

// maxMark bounds a mark, in bytes of JSON: it is kept with each run.
const maxMark = 4 << 10

// check reports why the event, of an option of that name, cannot be one. A nil MarkConfig is
// none.
func (m *MarkConfig) check(name string) error {
	if m == nil {
		return nil
	}
	if err := broker.CheckEvent(&sse.Event{Type: m.Event, Data: []byte(m.Data)}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if size := len(jsonvalue.Quote(m.Event)) + len(jsonvalue.Quote(m.Data)); size > maxMark {
		return fmt.Errorf("%s has %d bytes as JSON, at most %d are allowed: it is kept with each answer", name, size, maxMark)
	}
	return nil
}

// recordedChannels are the templates of record and resume.
func (h *Handler) recordedChannels() (list []string) {
	if h.Record != nil {
		list = append(list, h.Record.Channel)
	}
	if h.Resume != nil {
		list = append(list, h.Resume.Channel)
	}
	return list
}

// provisionTakeover makes what answers the requests. A recorded channel keeps a whole
// answer, unless a channel option of the broker says how much it keeps.
func (h *Handler) provisionTakeover(ctx caddy.Context, hub *openHub, settings *brokerSettings) error {
	switch {
	case h.Handoff == nil:
	case h.Handoff.Grip != nil:
		if err := h.provisionGrip(ctx, hub); err != nil {
			return err
		}
	default:
		h.takeover = takeover.NewHandoff(h.api, ctx.Slogger())
	}
	if !h.recorded() {
		return nil
	}
	recorder := &recorderHandler{api: h.api}
	c := takeover.RecordConfig{MaxBody: h.MaxBody.or(takeover.DefaultMaxBody), Drain: time.Duration(h.Drain)}
	if h.Resume != nil {
		t, err := parseChannelTemplate(h.Resume.Channel)
		if err != nil {
			return err
		}
		recorder.resume = &t
	}
	if r := h.Record; r != nil {
		t, err := parseChannelTemplate(r.Channel)
		if err != nil {
			return err
		}
		recorder.record = &t
		c.OnActive, c.Longest, c.Largest, c.Keep, c.Headers = r.OnActive, time.Duration(r.Longest), int(r.Largest), time.Duration(r.Keep), r.Headers
		c.Broken, c.Stopped = r.Broken.marks(), r.Stopped.marks()
		settings.recordOn(t.pattern(), c.History())
	}
	recorder.Recorder = takeover.NewRecorder(h.api, c, ctx.Slogger())
	h.takeover = recorder
	return nil
}

// recordOn gives the channels that match a pattern a history of their own, if no option
// does.
func (s *brokerSettings) recordOn(pattern string, history broker.Policy) {
	s.hub.Broker.Rules = append(s.hub.Broker.Rules, broker.Rule{Pattern: pattern, Policy: history, State: s.hub.Broker.State})
}

func (m *MarkConfig) marks() []runs.Mark {
	if m == nil {
		return nil
	}
	return []runs.Mark{{Type: m.Event, Data: m.Data}}
}

// recorderHandler finds the channel of a request, and what is to be done with it.
type recorderHandler struct {
	*takeover.Recorder
	api            *httpapi.Handler
	record, resume *channelTemplate
}

// Serve implements takeoverHandler.
func (h *recorderHandler) Serve(w http.ResponseWriter, r *http.Request, next takeover.Next) error {
	switch {
	case h.resume != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		if name, ok := h.resume.of(r, nil); ok {
			return h.Resume(w, r, name)
		}
	case takeover.Stops(r):
		if name, ok := h.stopped(r); ok {
			return h.api.StopRun(w, r, name)
		}
	case h.record != nil && takeover.Records(r):
		var body []byte
		if h.record.needsBody() {
			var err error
			if body, err = h.Body(r); err != nil {
				return h.Refuse(w, err)
			}
			defer r.Body.Close()
		}
		if name, ok := h.record.of(r, body); ok {
			return h.Recorder.Serve(w, r, name, next)
		}
		h.WarnNoChannel(r)
	}
	return next(w, r)
}

// stopped is the channel of a request that stops a run. It has no body, so that resume
// names the channel, and record where it can.
func (h *recorderHandler) stopped(r *http.Request) (name string, ok bool) {
	for _, t := range []*channelTemplate{h.resume, h.record} {
		if t != nil && !ok {
			name, ok = t.of(r, nil)
		}
	}
	return name, ok
}
