package takeover

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/problem"
)

// Next is the handler behind, which answers a request.
type Next func(http.ResponseWriter, *http.Request) error

// Handoff serves the streams that an application hands over. It is immutable and safe
// for concurrent use.
type Handoff struct {
	streams *httpapi.Handler
	logger  *slog.Logger
}

// NewHandoff returns a Handoff whose streams are served by streams, with its limits.
func NewHandoff(streams *httpapi.Handler, logger *slog.Logger) *Handoff {
	return &Handoff{streams, logger}
}

// Serve has the application answer a request, and serves the stream if the answer hands
// it over: see Ask. The error is that of next, or one for the server to answer.
func (h *Handoff) Serve(w http.ResponseWriter, r *http.Request, next Next) error {
	answer, err := Ask(w, r, next)
	var wrong *AnswerError
	switch {
	case errors.As(err, &wrong):
		h.logger.Error("the answer of an application cannot become a stream",
			slog.String("method", r.Method), slog.String("uri", r.RequestURI), slog.Any("reason", wrong.Err))
		return h.streams.Refuse(w, errAnswer)
	case err != nil || answer == nil:
		return err
	}
	s := &httpapi.Held{
		Caller:    answer.caller(),
		Subscribe: broker.SubscribeOptions{Channels: answer.Channels, Start: broker.Start{LastEventID: answer.LastEventID}},
		Events:    answer.Events,
		Judge:     stay,
	}
	if answer.LastEventID == "" {
		if s.Subscribe.Start.LastEventID, err = httpapi.CursorOf(r); err != nil {
			return h.streams.Refuse(w, err)
		}
	}
	return h.streams.Hold(w, r, s)
}

var errAnswer = problem.BadAnswer.Because("the application wanted to begin a stream, but its answer cannot become one; the log of the server has the reason")

// stay is the httpapi.Judge of what an application has decided: a reload does not change
// it. Whether the application can still be reached in the same way, Reload knows.
func stay(_ *httpapi.Handler, r *http.Request) (*access.Caller, error) {
	return auth.Previous(r), nil
}

// caller is who reads the stream.
func (a *Answer) caller() *access.Caller {
	return &access.Caller{Method: access.ByHandoff, User: a.User, Claims: a.Claims, Meta: a.Meta, Expires: a.Expires}
}
