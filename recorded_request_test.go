package evstream

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestARequestIsRememberedAsItCame(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://example.com:8080/live/a%2Fb?channel=x%20y&event=%0a", nil)
	r.Header = http.Header{
		"Accept":        {"text/event-stream"},
		"Authorization": {"Bearer abc"},
		"Cookie":        {"a=1; b=2"},
		"X-Two":         {"1", "2"},
	}
	r.RemoteAddr, r.TLS = "192.0.2.7:1234", &tls.ConnectionState{ServerName: "example.com"}
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	kept := recordRequest(r)
	r.Header.Set("Authorization", "changed since")

	got, err := kept.request(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != "GET" || got.Host != "example.com:8080" || got.URL.Path != "/live/a/b" ||
		got.URL.EscapedPath() != "/live/a%2Fb" || got.URL.RawQuery != "channel=x%20y&event=%0a" {
		t.Errorf("got %s %s %s", got.Method, got.Host, got.URL)
	}
	if got.Header.Get("Authorization") != "Bearer abc" || !reflect.DeepEqual(got.Header["X-Two"], []string{"1", "2"}) || len(got.Header) != 4 {
		t.Errorf("got %v", got.Header)
	}
	if got.RemoteAddr != "192.0.2.7:1234" || got.TLS.ServerName != "example.com" || got.ProtoMajor != 2 || got.Proto != "HTTP/2.0" {
		t.Errorf("got %s, %+v, %s", got.RemoteAddr, got.TLS, got.Proto)
	}

	server := new(caddyhttp.Server)
	prepared, err := kept.request(server)
	if err != nil {
		t.Fatal(err)
	}
	host := caddyhttp.MatchHost{"example.com"}
	if !host.Match(prepared) || prepared.Context().Value(caddyhttp.ServerCtxKey) != server {
		t.Error("the request is not prepared for matchers")
	}
}
