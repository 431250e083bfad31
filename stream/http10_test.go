package stream

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Behind a proxy only the hub sees that it is asked over HTTP/1.0.
func TestTheOpeningTellsOfHTTP10(t *testing.T) {
	site, _, _, _ := connected(t, func(*http.Request) Options {
		return Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
	}, func(*httptest.Server) {})
	for version, want := range map[string]bool{"1.0": true, "1.1": false} {
		conn, err := tls.Dial("tcp", site.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: a\r\n\r\n", version)
		lines := bufio.NewReader(conn)
		var line string
		for !strings.HasPrefix(line, "data: ") {
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Contains(line, `"http":"1.0"`); got != want {
			t.Errorf("HTTP/%s opens with %s", version, line)
		}
	}
}
