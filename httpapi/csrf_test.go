package httpapi

import (
	"crypto/tls"
	"testing"

	"github.com/evstream/caddy-evstream/access"
)

// What authenticated a caller counts, whatever header it came in.
func TestAmbientCredentialsCountWhateverTheyAre(t *testing.T) {
	var c *cors
	who := &access.Caller{User: "alice", Ambient: true}
	foreign := request{"POST", "/live/a", []string{"Origin: https://evil.example"}, ""}.build()
	if c.checkWrite(foreign, who) == nil || c.checkRead(foreign, who) == nil {
		t.Error("a foreign page may use ambient credentials")
	}
	silent := request{"POST", "/live/a", nil, ""}.build()
	if c.checkWrite(silent, who) == nil {
		t.Error("a write without an origin may use them")
	}
	if err := c.checkRead(silent, who); err != nil {
		t.Errorf("a read without an origin may not: %v", err)
	}
	who = &access.Caller{User: "alice"}
	if err := c.checkWrite(silent, who); err != nil {
		t.Errorf("what a script must know needs an origin: %v", err)
	}
}

func TestOverTLSTheSameOriginIsHTTPS(t *testing.T) {
	var c *cors
	r := request{"POST", "/live/a", []string{"Origin: http://hub.example"}, ""}.build()
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
