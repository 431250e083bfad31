package httpapi

import (
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

// etag is the entity tag of a version.
func etag(version broker.ID) string { return `"` + version.String() + `"` }

// mismatched is the error of a precondition that does not hold for the channel's
// value. It sets the ETag of the value.
func mismatched(w http.ResponseWriter, state *broker.State) error {
	if state == nil || state.Value == nil {
		w.Header().Del("ETag")
		return problem.PreconditionFailed.Because("the channel has no value")
	}
	w.Header().Set("ETag", etag(state.Version))
	return problem.PreconditionFailed.Because("the channel's value has the version %s", state.Version)
}

// spell is the text of a PATCH by which a request that repeats an idempotency key is
// compared with the first one.
func spell(what, session string, r *http.Request, body []byte) []byte {
	parts := []string{what, session, strings.Join(r.Header["If-Match"], ","), strings.Join(r.Header["If-None-Match"], ",")}
	return append([]byte(strings.Join(parts, "\n")+"\n"), body...)
}
