package evstream

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// The words that errors suggest are those that the blocks have.
func TestSuggestedWordsExist(t *testing.T) {
	for block, words := range map[string][]string{
		":80 {\n\tevstream {\n\t\tWORD\n\t}\n}\n":                                 handlerOptions,
		"{\n\tevstream {\n\t\tWORD\n\t}\n}\n":                                     brokerOptions,
		"{\n\tevstream {\n\t\tchannel a {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":           channelOptions,
		":80 {\n\tevstream {\n\t\tjwt {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":             jwtOptions,
		":80 {\n\tevstream {\n\t\tverify http://x {\n\t\t\tWORD\n\t\t}\n\t}\n}\n": {"timeout", "cache", "forward", "allow_private"},
	} {
		for _, word := range words {
			_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(strings.Replace(block, "WORD", word, 1)), nil)
			if err != nil && strings.Contains(err.Error(), "unknown") {
				t.Errorf("%s: %v", word, err)
			}
		}
	}
}

// What is unset when Caddy runs is named, with where it has to be set.
func TestUnsetVariablesAreNamed(t *testing.T) {
	for name, tt := range map[string]struct{ block, want string }{
		"a bearer":     {"bearer backend {env.EVSTREAM_TEST_UNSET}\nallow backend publish **", `the secret of bearer "backend": {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy`},
		"a key":        {"jwt {\nkey {env.EVSTREAM_TEST_UNSET}\n}\nallow user subscribe **", `jwt: key 1: {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy`},
		"a ticket key": {"bearer b a-long-secret-of-the-test\ntickets {\nkey {env.EVSTREAM_TEST_UNSET}\n}\nallow b subscribe **", `tickets: key 1: {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy`},
	} {
		err := validate(t, options("")+":0 {\n\tevstream /live/* {\n"+tt.block+"\n\t}\n}\n")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
