package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

//go:embed page
var sources embed.FS

// scripts are the parts of the page's one script, in order.
var scripts = []string{"base.js", "chart.js", "overview.js", "lists.js", "tail.js", "write.js", "main.js"}

// page is the page as it is served: one file.
type page struct {
	body   []byte
	tag    string
	policy string
}

// assemble puts the style and the script into the page, and allows nothing but these and
// what the mount itself serves.
func assemble() (*page, error) {
	html, err := sources.ReadFile("page/index.html")
	if err != nil {
		return nil, err
	}
	style, err := sources.ReadFile("page/style.css")
	if err != nil {
		return nil, err
	}
	var script []byte
	for _, name := range scripts {
		part, err := sources.ReadFile("page/" + name)
		if err != nil {
			return nil, err
		}
		script = append(script, part...)
	}
	style, script = append([]byte("\n"), style...), append([]byte("\n"), script...)
	html = bytes.Replace(html, []byte("<style></style>"), fmt.Appendf(nil, "<style>%s</style>", style), 1)
	html = bytes.Replace(html, []byte("<script></script>"), fmt.Appendf(nil, "<script>%s</script>", script), 1)
	sum := sha256.Sum256(html)
	return &page{
		body: html,
		tag:  `"` + hex.EncodeToString(sum[:12]) + `"`,
		policy: "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
			"style-src " + hash(style) + "; script-src " + hash(script),
	}, nil
}

// hash is the source expression of an inline element (CSP Level 3, section 2.3.1).
func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (p *page) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", p.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.body))
}
