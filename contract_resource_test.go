package evstream

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
)

// FuzzMount compares what a handler takes for its own with what Caddy's path
// matcher does.
func FuzzMount(f *testing.F) {
	for _, path := range []string{"/live/a", "/LIVE/a/b/", "/live//a", "/live/a%2Fb", "/live/../x", "/live/%5Fpublish", "/live", "/live/%61", "//live/", "/./live", "/"} {
		f.Add("/live", path)
		f.Add("", path)
	}
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.Open(broker.NewMemory(), hub.Config{Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close() })
	f.Fuzz(func(t *testing.T, mount, path string) {
		e, err := httpapi.New(h, httpapi.Config{Mount: mount, Access: access.AllowAll(), Logger: quiet})
		if err != nil {
			return
		}
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" {
			return
		}
		w := httptest.NewRecorder()
		ours, err := e.Serve(w, &http.Request{Method: http.MethodOptions, URL: u, Header: http.Header{}})
		if err != nil {
			t.Fatal(err)
		}
		cleaned := caddyhttp.CleanPath(strings.ToLower(u.Path), true)
		within := strings.HasPrefix(u.Path, "/") &&
			(cleaned == strings.ToLower(mount) || strings.HasPrefix(cleaned, strings.ToLower(mount)+"/"))
		if ours != within {
			t.Fatalf("ours %v, but Caddy's comparison says %v", ours, within)
		}
		if name, ok := strings.CutPrefix(strings.ToLower(u.Path), strings.ToLower(mount)); ok && ours && w.Code == http.StatusNoContent {
			if clean := caddyhttp.CleanPath("/"+strings.TrimPrefix(name, "/"), true); clean != "/"+strings.TrimPrefix(name, "/") {
				t.Fatalf("Caddy cleans %q to %q", name, clean)
			}
		}
	})
}
