// Package files serves what a hub has for everybody: its client for pages, and that
// client's types. They are the same for all, and need no rule and no credential.
package files

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/browser"
)

// The names beneath a mount. No channel begins with "_".
const (
	Client = "_client.js"
	Types  = "_client.d.ts"
)

// Methods are those that a file has.
const Methods = "GET, HEAD, OPTIONS"

// Is reports whether a name beneath the mount is that of a file.
func Is(name string) bool { return name == Client || name == Types }

// Serve answers GET and HEAD of a file that there is. The CORS headers of the hub are set
// already, where the page's origin has any.
//
// A page of any origin may load it: a module script needs that said. It says nothing of
// the hub but its version.
func Serve(w http.ResponseWriter, r *http.Request, name string) {
	h := w.Header()
	body := browser.Client()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	if name == Types {
		body = browser.Types()
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	sum := sha256.Sum256([]byte(body))
	h.Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
}
