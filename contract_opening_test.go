package evstream

import (
	"net/http"
	"strings"
	"testing"
)

// A page can tell a channel without a value from one whose value is still to come.
func TestTheOpeningListsTheChannelsThatHaveAValue(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish,state **"))
		put(t, e, "/live/cart", "1")
		put(t, e, "/live/null", "null")
		put(t, e, "/live/gone", "1")
		if resp := ask(t, e, asBackend(http.MethodDelete, "/live/gone", "")); resp.StatusCode != http.StatusOK {
			t.Fatalf("removing a value: %d", resp.StatusCode)
		}
		for path, want := range map[string]string{
			"/live/cart":    `"values":["cart"]}`,
			"/live/nothing": `"values":[]}`,
			"/live/gone":    `"values":[]}`,
			"/live/?channel=nothing&channel=null&channel=cart&channel=c*": `"values":["null","cart"]}`,
		} {
			s := openStream(t, e, path)
			if got := s.opening(); !strings.HasSuffix(got, want+"\n") {
				t.Errorf("%s opens with %q, want …%s", path, got, want)
			}
		}
	})
}

// A stream that has to wait says why.
func TestAStreamThatIsPutOffSaysWhy(t *testing.T) {
	down := func(c *siteConfig) {
		c.handler.Verify = &VerifyConfig{URL: "http://127.0.0.1:1/"}
	}
	eachServer(t, func(t *testing.T, on server) {
		for name, tt := range map[string]struct {
			configure func(*siteConfig)
			want      string
		}{
			"the application is down": {down, ": evstream: the caller cannot be identified now"},
			"too many":                {func(c *siteConfig) { c.broker.MaxConnections = 1 }, ": evstream: too many"},
		} {
			t.Run(name, func(t *testing.T) {
				e := on.start(t, withRules("anyone subscribe **"), tt.configure)
				var first string
				for range 2 {
					s := openStream(t, e, "/live/a", "Cookie: x=y")
					var err error
					if first, err = s.lines.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
					if strings.HasPrefix(first, tt.want) {
						return
					}
				}
				t.Errorf("it is told %q, want %q", first, tt.want)
			})
		}
	})
}
