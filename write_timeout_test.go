package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// TestTheServersTimeoutsDoNotShortenWriteTimeout has a client stall for longer than the
// server lets a write take: the stream goes on, because write_timeout is longer.
func TestTheServersTimeoutsDoNotShortenWriteTimeout(t *testing.T) {
	const server = time.Second
	for _, proto := range []string{"http/1", "http/2"} {
		t.Run(proto, func(t *testing.T) {
			plain := client
			defer func() { client = plain }()
			address := freeAddress(t)
			url := "http://" + address + "/live/a"
			load(t, options(fmt.Sprintf("\tservers {\n\t\tprotocols h1 h2c\n\t\ttimeouts {\n\t\t\twrite %[1]s\n\t\t\twrite_idle %[1]s\n\t\t}\n\t}", server))+
				"http://"+address+" {\n\tevstream /live/* {\n\t\tallow anyone all **\n\t\tdelivery attached\n\t\twrite_timeout 60s\n\t}\n}\n")
			if proto == "http/2" {
				var h2c http.Protocols
				h2c.SetUnencryptedHTTP2(true)
				client = &http.Client{Transport: &http.Transport{Protocols: &h2c}}
			}
			s := subscribe(t, url)
			client = plain
			large := strings.Repeat("x", 200<<10)
			const events = 60 // 12 MiB, more than all buffers between hold
			for i := range events {
				op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(fmt.Sprint(i, large))}}
				if _, err := theHub(t, "default").Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(server * 3 / 2) // the client reads nothing
			for i := range events {
				if got := s.next(); got != fmt.Sprint(i, large) {
					t.Fatalf("event %d begins with %.20q", i, got)
				}
			}
		})
	}
}
