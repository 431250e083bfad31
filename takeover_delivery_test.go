package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

// However a stream is delivered, and through however many blocks that hand over, it is the
// same, and the application is free.
func TestAStreamThatIsHandedOverIsDeliveredInEveryWay(t *testing.T) {
	var open atomic.Int32
	app := users(t, &open)
	address := freeAddress(t)
	load(t, options("\tservers {\n\t\tprotocols h1 h2c\n\t}")+fmt.Sprintf(`http://%s {
	evstream /live/* {
		allow anyone all **
	}
	route /attached/* {
		evstream {
			handoff
			delivery attached
		}
		reverse_proxy %[2]s
	}
	route /twice/* {
		evstream {
			handoff
		}
		evstream {
			handoff
		}
		reverse_proxy %[2]s
	}
}
`, address, strings.TrimPrefix(app, "http://")))
	for name, tt := range map[string]struct {
		client *http.Client
		path   string
	}{
		"detached": {client, "/twice/"},
		"attached": {client, "/attached/"},
		"HTTP/2":   {overHTTP2(), "/twice/"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+tt.path+"?user=ann", strings.NewReader("a body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tt.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			s := &caddyStream{t: t, events: sse.NewDecoder(resp.Body, 1<<20)}
			eventually(t, "the application to be free", func() bool { return open.Load() == 0 })
			eventually(t, "the stream to begin", func() bool { return theHub(t, "default").Stats().Streams == 1 })
			mustPublish(t, "http://"+address+"/live/room?to=user:ann", name)
			s.expect(name)
			if resp.Header.Get("Evstream-User") != "" || resp.Header.Get("Vary") != "Origin" {
				t.Errorf("the header is %v", resp.Header)
			}
			_ = resp.Body.Close()
			eventually(t, "the stream to leave", func() bool { return theHub(t, "default").Stats().Streams == 0 })
		})
	}
}
