package evstream

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A reload says GOAWAY on HTTP/2; the streams go on.
func TestStreamsSurviveReloadsOverHTTP2(t *testing.T) {
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	config := func(n int) string {
		return fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period 30s
	evstream {
		max_channels %d
	}
	servers {
		protocols h1 h2
	}
}
https://localhost:%s {
	tls internal
	bind 127.0.0.1
	evstream /live/* {
		allow anyone all **
	}
}
`, n, port)
	}
	old := client
	defer func() { client = old }()
	client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"},
		ForceAttemptHTTP2: true,
	}}
	load(t, config(1))
	url := "https://localhost:" + port + "/live/a"
	eventually(t, "the certificate", func() bool {
		resp, err := client.Get(url + "?info")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.ProtoMajor == 2
	})
	streams := make([]*caddyStream, 5)
	for i := range streams {
		streams[i] = subscribe(t, url)
	}
	for i := range 10 {
		if err := reload(t, config(i+2)); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, url, fmt.Sprint(i))
	}
	for _, s := range streams {
		for i := range 10 {
			s.expect(fmt.Sprint(i))
		}
	}
}
