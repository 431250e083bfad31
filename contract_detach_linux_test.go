package evstream

import (
	"testing"
)

// A stream that is detached ends with its connection: its answer is not chunked.
func TestASubscriberIsDetached(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for delivery, attached := range map[string]bool{"auto": false, "attached": true} {
			t.Run(delivery, func(t *testing.T) {
				e := on.start(t, func(c *siteConfig) { c.handler.Delivery = delivery })
				s := openStream(t, e, "/live/match.7")
				s.opened()
				if chunked := len(s.resp.TransferEncoding) > 0; chunked != attached {
					t.Errorf("the stream is attached: %t, want %t", chunked, attached)
				}
				mustPost(t, e, "/live/match.7", "x")
				if got := s.event(); got != "data: x\n" {
					t.Errorf("got %q", got)
				}
				// Who leaves is noticed.
				s.cancel()
				eventually(t, "the stream to leave", func() bool { return len(e.hub.Sessions()) == 0 })
			})
		}
	})
}
