package evstream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// A channel that is closed at one node is closed at all: its readers everywhere get what is
// left and the end, nobody publishes to it, and it is opened from any node.
func TestAChannelIsClosedAndOpenedOnAllNodes(t *testing.T) {
	server := redistest.Start(t)
	n := startPair(t, server.Addr(), server.Addr())
	atA, atB := subscribe(t, n.a+"x"), subscribe(t, n.b+"x")
	both := connect(t, n.b+"?channel=x&channel=y")
	n.publish(n.a+"x", "first")
	if answer, body := n.ask("POST", n.a+"x?close", "last"); answer.StatusCode != http.StatusOK {
		t.Fatalf("closing: %d %s", answer.StatusCode, body)
	}
	for _, s := range []*caddyStream{atA, atB} {
		s.expect("first")
		s.expect("last")
		if e, err := s.events.Next(); err != nil || e.Type != "end" || s.events.LastEventID() != "evstream.end" {
			t.Fatalf("got %s %s, %v", e.Type, e.Data, err)
		}
		s.ended()
	}
	for _, want := range []string{"evstream.open", "", "", "evstream.closed"} {
		e, err := both.events.Next()
		if err != nil || e.Type != want && (want != "" || e.Type != "message") {
			t.Fatalf("the reader of both gets %s %s, %v, want %s", e.Type, e.Data, err, want)
		}
	}
	for name, base := range map[string]string{"a": n.a, "b": n.b} {
		answer, body := n.ask("POST", base+"x", "late")
		if answer.StatusCode != http.StatusConflict || !strings.Contains(body, "closed") {
			t.Errorf("publishing at %s: %d %s", name, answer.StatusCode, body)
		}
		if _, body := n.ask("GET", base+"x?info", ""); !strings.Contains(body, `"closed":"`) {
			t.Errorf("the document at %s is %s", name, body)
		}
		late := connect(t, base+"x?since=earliest")
		for _, want := range []string{"evstream.open", "message", "message", "end"} {
			e, err := late.events.Next()
			if err != nil || e.Type != want && (want != "message" || e.Type != "") {
				t.Fatalf("who comes later at %s gets %s %s, %v, want %s", name, e.Type, e.Data, err, want)
			}
		}
		if answer, _ := n.ask("GET", base+"x", "", header("Last-Event-ID", "evstream.end"), header("Accept", "text/event-stream")); answer.StatusCode != http.StatusNoContent {
			t.Errorf("who comes with the end's id at %s: %d", name, answer.StatusCode)
		}
	}
	// A node that starts again knows it from the log.
	before := theHub(t, "b")
	for _, adapterB := range []string{"", sharedBy(server.Addr(), "")} {
		if err := reload(t, pairOf(n.address, sharedBy(server.Addr(), ""), adapterB, "")); err != nil {
			t.Fatal(err)
		}
	}
	n.awaitLoaded()
	if theHub(t, "b") == before {
		t.Error("the node did not start again")
	}
	if answer, body := n.ask("POST", n.b+"x", "late"); answer.StatusCode != http.StatusConflict {
		t.Errorf("publishing at a node that has started again: %d %s", answer.StatusCode, body)
	}
	// What is opened at the one takes events at the other.
	if answer, body := n.ask("DELETE", n.b+"x?history", ""); answer.StatusCode/100 != 2 {
		t.Fatalf("opening: %d %s", answer.StatusCode, body)
	}
	again := subscribe(t, n.b+"x")
	n.publish(n.a+"x", "again")
	again.expect("again")
}
