package evstream

import (
	"io"
	"slices"
	"testing"
)

// Whether a stream is detached or attached, its answer is chunked, and its end is a
// proper one.
func TestASubscriberIsDetached(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for delivery, attached := range map[string]bool{"auto": false, "attached": true} {
			t.Run(delivery, func(t *testing.T) {
				e := on.start(t, func(c *siteConfig) { c.handler.Delivery = delivery })
				s := openStream(t, e, "/live/match.7")
				s.opened()
				eventually(t, "the handler to return, or not", func() bool { return handlerWaits(t) == attached })
				if !slices.Equal(s.resp.TransferEncoding, []string{"chunked"}) || s.resp.Close != attached {
					t.Errorf("the transfer encoding is %q, the connection closes: %t", s.resp.TransferEncoding, s.resp.Close)
				}
				mustPost(t, e, "/live/match.7", "x")
				if got := s.event(); got != "data: x\n" {
					t.Errorf("got %q", got)
				}
				e.hub.Sessions()[0].Stream.End()
				if rest, err := io.ReadAll(s.resp.Body); err != nil {
					t.Errorf("at the end: %q, %v", rest, err)
				}
				// Who leaves is noticed.
				s = openStream(t, e, "/live/match.7")
				s.opened()
				s.cancel()
				eventually(t, "the stream to leave", func() bool { return len(e.hub.Sessions()) == 0 })
			})
		}
	})
}
