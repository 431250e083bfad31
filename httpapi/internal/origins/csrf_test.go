package origins

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/evstream/caddy-evstream/access"
)

// What authenticated a caller counts, whatever header it came in.
func TestAmbientCredentialsCountWhateverTheyAre(t *testing.T) {
	var c *Policy
	who := &access.Caller{User: "alice", Ambient: true}
	foreign := write("https://evil.example")
	if c.CheckWrite(foreign, who) == nil || c.CheckRead(foreign, who) == nil {
		t.Error("a foreign page may use ambient credentials")
	}
	silent := write("")
	if c.CheckWrite(silent, who) == nil {
		t.Error("a write without an origin may use them")
	}
	if err := c.CheckRead(silent, who); err != nil {
		t.Errorf("a read without an origin may not: %v", err)
	}
	who = &access.Caller{User: "alice"}
	if err := c.CheckWrite(silent, who); err != nil {
		t.Errorf("what a script must know needs an origin: %v", err)
	}
}

func TestOverTLSTheSameOriginIsHTTPS(t *testing.T) {
	var c *Policy
	r := write("http://hub.example")
	r.TLS = new(tls.ConnectionState)
	if c.trusts(r) {
		t.Error("a page that was not sent over TLS is trusted")
	}
	for _, origin := range []string{"https://hub.example", "https://HUB.example:443"} {
		if r.Header.Set("Origin", origin); !c.trusts(r) {
			t.Errorf("%s is not trusted", origin)
		}
	}
}

// write is a request that writes, of a page of an origin.
func write(origin string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://hub.example/live/a", nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	return r
}
