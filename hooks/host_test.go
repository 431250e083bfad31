package hooks

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

// URLs of one host share none of their requests: where all but one of them answer nothing,
// that one gets its events.
func TestURLsOfOneHostDoNotWaitForEachOther(t *testing.T) {
	over, asked, taken := make(chan struct{}), make(chan struct{}, MaxHooks*maxWorkers), make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			asked <- struct{}{}
			<-over
			return
		}
		taken <- struct{}{}
	}))
	defer server.Close()
	defer close(over)
	h, err := hub.Open(broker.NewMemory(), hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	k := Open(h, Options{})
	defer k.Close()
	hooks := []Hook{{URL: server.URL + "/good", Events: []string{Disconnected}}}
	for i := range MaxHooks - 1 {
		hooks = append(hooks, Hook{URL: fmt.Sprintf("%s/slow/%d", server.URL, i), Events: []string{Connected}})
	}
	if err := k.SetConfig(Config{Hooks: hooks}); err != nil {
		t.Fatal(err)
	}
	soon := func(from chan struct{}, what string) {
		t.Helper()
		select {
		case <-from:
		case <-time.After(sendTimeout / 2):
			t.Fatal("waited in vain for " + what)
		}
	}
	for i := range maxWorkers {
		k.Connected(session(fmt.Sprint(i)))
	}
	for i := range (MaxHooks - 1) * maxWorkers {
		soon(asked, fmt.Sprintf("request %d of those that are answered slowly", i+1))
	}
	k.Disconnected(session("a"))
	soon(taken, "the event of the URL that answers")
}
