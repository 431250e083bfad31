// Package files serves what a hub has for everybody: its client for pages, that client's
// types, and the contract of its HTTP as an OpenAPI document. They are the same for all,
// and need no rule and no credential.
package files

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/browser"
)

// The names beneath a mount. No channel begins with "_".
const (
	Client   = "_client.js"
	Types    = "_client.d.ts"
	Contract = "_openapi.json"
)

// contract is what docs/http.md says, for programs. A test makes each request that it has
// as x-requests of a running hub.
//
//go:embed openapi.json
var contract string

// Methods are those that a file has.
const Methods = "GET, HEAD, OPTIONS"

// Is reports whether a name beneath the mount is that of a file.
func Is(name string) bool { return name == Client || name == Types || name == Contract }

// Serve answers GET and HEAD of a file that there is beneath mount. The CORS headers of the hub are set
// already, where the page's origin has any.
//
// A page of any origin may load it: a module script needs that said. It says nothing of
// the hub but its version.
func Serve(w http.ResponseWriter, r *http.Request, mount, name string) {
	h := w.Header()
	body := browser.Client()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=3600")
	switch name {
	case Types:
		body = browser.Types()
		h.Set("Content-Type", "text/plain; charset=utf-8")
	case Contract:
		// Without a mount the hub may lie behind one that a handler in front has taken off,
		// so that the server is where the document is.
		body = strings.Replace(contract, "{{mount}}", cmp.Or(mount, "."), 1)
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, no-cache")
	}
	if h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	sum := sha256.Sum256([]byte(body))
	h.Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
}
