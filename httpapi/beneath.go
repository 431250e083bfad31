package httpapi

import (
	"net/http"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/httpapi/internal/paths"
)

// Beneath is what a request names beneath the mount, percent-decoded, for handlers that
// serve something there beside the hub: a name that begins with "_". It reports false for
// what lies elsewhere, or has a path that is refused.
func (h *Handler) Beneath(r *http.Request) (string, bool) {
	if !paths.Within(h.mount, r.URL.Path) {
		return "", false
	}
	rest, err := paths.Cut(h.mount, r.URL.EscapedPath())
	if err != nil {
		return "", false
	}
	name, err := paths.Decode(rest)
	return name, err == nil
}

// Reader is who makes a request that reads and opens no stream, by the handler's
// credentials. The read counts against the caller's rate.
func (h *Handler) Reader(r *http.Request) (*access.Caller, error) { return h.reader(r) }

// Explain says whether the rules of the handler let who do something with a channel, and
// why.
func (h *Handler) Explain(who *access.Caller, do, channel string) access.Explanation {
	return h.access.Explain(who, do, channel)
}

// Answer writes a document as JSON.
func (h *Handler) Answer(w http.ResponseWriter, document any) error { return h.answer(w, document) }
