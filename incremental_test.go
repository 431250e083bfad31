package evstream

import (
	"fmt"
	"net/http"
	"testing"
)

// TestACaddyInFrontHoldsNoStreamBack: it passes an incremental answer on as it comes,
// and refuses it where it is told to buffer.
func TestACaddyInFrontHoldsNoStreamBack(t *testing.T) {
	hub, front, buffers := freeAddress(t), freeAddress(t), freeAddress(t)
	load(t, site(hub, "", allowAnything)+fmt.Sprintf("http://%s {\n\tencode\n\treverse_proxy %s\n}\nhttp://%s {\n\treverse_proxy %s {\n\t\tresponse_buffers 1MiB\n\t\trequest_buffers 1MiB\n\t}\n}\n",
		front, hub, buffers, hub))
	s := subscribe(t, "http://"+front+"/live/a", header("Accept-Encoding", "gzip"))
	if got := s.header.Get("Incremental"); got != "?1" || s.header.Get("Content-Encoding") != "" {
		t.Errorf("the header in front is %v", s.header)
	}
	mustPublish(t, "http://"+hub+"/live/a", "1")
	s.expect("1")
	if status := connect(t, "http://"+buffers+"/live/a").status; status != http.StatusNotImplemented {
		t.Errorf("a stream through a Caddy that buffers is answered %d", status)
	}
	lines := header("Content-Type", "application/x-ndjson")
	if status, _ := post(t, "http://"+buffers+"/live/a", `{"data":"2"}`, lines, header("Incremental", "?1")); status != http.StatusNotImplemented {
		t.Errorf("incremental publishing through a Caddy that buffers is answered %d", status)
	}
	if status, body := post(t, "http://"+front+"/live/a", `{"data":"3"}`, lines, header("Incremental", "?1")); status != http.StatusOK {
		t.Errorf("incremental publishing is answered %d %s", status, body)
	}
	s.expect(`{"data":"3"}`)
}
