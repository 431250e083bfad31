package stream

import (
	"errors"
	"io"
	"testing"
	"time"
)

// attachedWays are the queries with which tcpSite serves a stream attached: with and
// without its connection.
var attachedWays = []string{"attached", "serve"}

// openAttached opens an attached stream, and reads its opening.
func (site *tcpSite) openAttached(query string) *tcpClient {
	site.t.Helper()
	client := site.dial()
	client.ask("/a?"+query, "")
	client.readOpening()
	client.session = <-site.refused
	return client
}

// The framing of an attached stream is that of the HTTP server: it, too, must tell an
// end in good order from a fault.
func TestAnAttachedStreamThatEndsInGoodOrderEndsItsBody(t *testing.T) {
	site := newTCPSite(t, Options{})
	for _, query := range attachedWays {
		for name, end := range map[string]func(*Session){
			"the end":      (*Session).End,
			"a reload":     func(s *Session) { s.Close(ReasonReload) },
			"an exit":      func(s *Session) { s.Drain(time.Millisecond, ReasonShutdown) },
			"a revocation": func(s *Session) { s.Close(ReasonRevoked) },
			"a ticket":     func(s *Session) { s.Close(ReasonReplaced) },
		} {
			t.Run(name+", "+query, func(t *testing.T) {
				client := site.openAttached(query)
				client.expect(site.publish("a", "1"))
				end(client.session)
				if _, err := io.ReadAll(client.body); err != nil {
					t.Errorf("an end in good order is read as %v", err)
				}
			})
		}
	}
}

func TestAnAttachedStreamThatStallsIsCut(t *testing.T) {
	site := newTCPSite(t, Options{WriteTimeout: 100 * time.Millisecond})
	for _, query := range attachedWays {
		t.Run(query, func(t *testing.T) {
			client := site.openAttached(query)
			site.publish("a", numbered(64, 32<<10)...)
			site.ended(client.session, ReasonSlow) // before the client reads on
			if _, err := io.ReadAll(client.body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a stall is read as %v", err)
			}
		})
	}
}
