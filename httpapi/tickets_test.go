package httpapi

import (
	"log/slog"
	"testing"

	"github.com/evstream/caddy-evstream/access"
)

// Without Config.Auth, as at the admin endpoint, there are no tickets either.
func TestTicketsWithoutCredentialsAreNotFound(t *testing.T) {
	for name, policy := range map[string]*access.Policy{"everything is allowed": access.AllowAll(), "some is": newTestHandler(t).access} {
		t.Run(name, func(t *testing.T) {
			e, err := New(newTestHandler(t).hub, Config{Mount: "/live", Access: policy, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			wantProblem(t, ask(t, e, request{method: "POST", path: "/live/_tickets"}), 404, "not-found")
		})
	}
}
