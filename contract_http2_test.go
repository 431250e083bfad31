package evstream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/hub"
)

// A reload says GOAWAY on HTTP/2; the streams go on.
func TestStreamsSurviveReloadsOverHTTP2(t *testing.T) {
	const reloads = 5
	for _, delivery := range []string{"attached", "auto"} {
		t.Run(delivery, func(t *testing.T) {
			_, port, _ := strings.Cut(freeAddress(t), ":")
			config := func(n int) string {
				return overTLS(port, fmt.Sprintf("\tevstream {\n\t\tmax_channels %d\n\t}", n), "\t\tallow anyone all **\n\t\tdelivery "+delivery)
			}
			useTLS(t)
			load(t, config(1))
			url := "https://localhost:" + port + "/live/a"
			awaitTLS(t, url, 2)
			streams := make([]*caddyStream, 5)
			for i := range streams {
				streams[i] = subscribe(t, url)
			}
			for i := range reloads {
				if err := reload(t, config(i+2)); err != nil {
					t.Fatal(err)
				}
				mustPublish(t, url, fmt.Sprint(i))
			}
			for _, s := range streams {
				for i := range reloads {
					s.expect(fmt.Sprint(i))
				}
			}
			serving := theHub(t, "default").Stats().Serving
			if n := serving[hub.Serving{Protocol: 2, Detached: delivery == "auto"}]; n != len(streams) {
				t.Errorf("%d streams are %s", n, delivery)
			}
		})
	}
}
