package authtest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// Application is an application that verify asks.
type Application struct {
	*httptest.Server
	Asked atomic.Int32 // the number of requests

	mu   sync.Mutex // guards last
	last *http.Request
}

// StartApplication starts an application, which runs until the test ends.
func StartApplication(t testing.TB, answer http.HandlerFunc) *Application {
	t.Helper()
	app := new(Application)
	app.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.Asked.Add(1)
		app.mu.Lock()
		app.last = r
		app.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(app.Close)
	return app
}

// Last returns the last request, nil if there was none.
func (a *Application) Last() *http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// Says returns a handler that answers with JSON.
func Says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}
