package httpapi

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/problem"
)

// Before it is known who is revoked, nobody is let in who could be, and everybody
// else is.
func TestNobodyIsLetInBeforeItIsKnownWhoIsRevoked(t *testing.T) {
	e := hubHandler(t, hubSetup{log: loadingLog{broker.NewMemory()}, auth: hubTokens()})
	token := "Authorization: Bearer " + authtest.Sign(t, "HS256", authtest.Alice(nil))
	_, err := e.auth.Authenticate(hubRequest("GET", "/live/a", "", token))
	if !errors.Is(err, hub.ErrBehind) || problem.Of(err).Status() != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
	if who, err := e.auth.Authenticate(hubRequest("GET", "/live/a", "")); err != nil || !who.Anonymous() {
		t.Errorf("an anonymous caller is %s, %v", who, err)
	}
	hubProblem(t, hubAnswer(t, e, "POST", "/live/a", "x", token), 503, "unavailable")

	e = hubHandler(t, hubSetup{auth: hubTokens()})
	if _, err := e.auth.Authenticate(hubRequest("GET", "/live/a", "", token)); err != nil {
		t.Error(err)
	}
	now := time.Now()
	if _, err := e.hub.Revoke(t.Context(), &hub.Revocation{User: "alice", At: now}, now); err != nil {
		t.Fatal(err)
	}
	hubProblem(t, hubAnswer(t, e, "POST", "/live/a", "x", token), 401, "unauthorized")
	hubProblem(t, hubAnswer(t, e, "GET", "/live/a", "", token), 401, "unauthorized")
}
