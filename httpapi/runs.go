package httpapi

import (
	"net/http"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/runs"
)

// MayStop reports why a request may not stop a run of a channel, nil if it has none: it
// needs the right to publish there, unless the answer is to the same user.
func (h *Handler) MayStop(r *http.Request, channel string, run *runs.Run) error {
	who, err := h.writer(r)
	if err != nil {
		return err
	}
	if run != nil && run.User != "" && run.User == who.User {
		return nil
	}
	return h.access.Require(who, access.Publish, channel)
}

// StopRun answers a request to stop the recorded answer of a channel: the application's
// connection is cut, and readers are told. The error is that of Host.Fail.
func (h *Handler) StopRun(w http.ResponseWriter, r *http.Request, channel string) error {
	run := h.hub.Runs().Get(channel)
	err := h.MayStop(r, channel, run)
	if err == nil {
		err = h.hub.StopRun(r.Context(), run, string(runs.Stopped))
	}
	if err != nil {
		return h.fail(w, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
