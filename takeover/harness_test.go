package takeover

import (
	"log/slog"
	"testing"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
)

// hubOn is a hub on a log, and its handler, which lets everybody do everything.
func hubOn(t *testing.T, log broker.Log) (*hub.Hub, *httpapi.Handler) {
	t.Helper()
	h, err := hub.Open(log, hub.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	handler, err := httpapi.New(h, httpapi.Config{Access: access.AllowAll(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return h, handler
}
