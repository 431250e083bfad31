package stream

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestAStreamThatIsNotWholeIsCut(t *testing.T) { overEach(t, testAStreamThatIsNotWholeIsCut) }

func testAStreamThatIsNotWholeIsCut(t *testing.T) {
	for _, way := range []string{"detached", "attached"} {
		t.Run(way, func(t *testing.T) {
			site := newTCPSite(t, Options{Whole: true})
			open := func() *tcpClient {
				client := site.dial()
				client.ask("/a?"+way, "")
				client.readOpening()
				if strings.Contains(client.header, "Connection: close") {
					t.Errorf("Node.js would take a cut for the end: %q", client.header)
				}
				select {
				case client.session = <-site.sessions:
				case client.session = <-site.refused:
				}
				return client
			}
			for _, end := range []func(*Session){
				(*Session).End,
				func(s *Session) { s.Close(ReasonRefused) },
				func(s *Session) { s.Close(ReasonReload) },
			} {
				client := open()
				client.expect(site.publish("a", "1"))
				end(client.session)
				if rest, err := io.ReadAll(client.body); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("at the end: %.200q, %v", rest, err)
				}
				<-client.session.Done()
			}
			client := open()
			want := site.publish("a", "2")
			if _, err := site.broker.Publish(context.Background(), []broker.Op{{Kind: broker.KindClose, Channel: "a", Close: &broker.CloseOp{}}}); err != nil {
				t.Fatal(err)
			}
			client.expect(want + "id: evstream.end\nevent: end\ndata: {}\n\n")
			if rest, err := io.ReadAll(client.body); err != nil || len(rest) > 0 {
				t.Errorf("at the end of the body: %q, %v", rest, err)
			}
			site.ended(client.session, ReasonEnded)
		})
	}
}

// Exit does not wait for clients.
func TestAStreamThatIsNotWholeIsCutAtExit(t *testing.T) {
	overEach(t, testAStreamThatIsNotWholeIsCutAtExit)
}

func testAStreamThatIsNotWholeIsCutAtExit(t *testing.T) {
	site := newTCPSite(t, Options{Whole: true})
	client := site.open("/a")
	site.server.Close()
	if rest, err := io.ReadAll(client.body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("at the end: %.200q, %v", rest, err)
	}
}
