package stream

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// A stream may be woken while it begins. Run it with -race.
func TestAStreamIsWokenWhileItBegins(t *testing.T) {
	site, _, _, sessions := connected(t, func(*http.Request) Options {
		return Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
	}, func(*httptest.Server) {})
	for range 200 {
		waking := make(chan *Session)
		go func() {
			s := <-sessions
			for range 2000 {
				s.Wake()
			}
			waking <- s
		}()
		resp, err := site.Client().Get(site.URL)
		if err != nil {
			t.Fatal(err)
		}
		(<-waking).Close(ReasonClosed)
		_ = resp.Body.Close()
	}
}
