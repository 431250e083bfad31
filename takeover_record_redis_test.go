package evstream

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// A log in Redis has an answer still when no Caddy has been running, and the application is
// not asked again.
func TestAKeptAnswerIsThereAfterARestartOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	m := newModel(t)
	address := freeAddress(t)
	global := "\tevstream {\n" + sharedBy(server.Addr(), "") + "\t}\n"
	p := recordProcess(t, address, m.URL, global)
	url := "http://" + address + "/api/chat/7"
	first := prompt(t, url, "{}")
	m.tokens <- "one"
	close(m.tokens)
	if got := rest(t, first.Body); got != "data: one\n\n" {
		t.Errorf("the first reader got %q", got)
	}
	p.stop()
	recordProcess(t, address, m.URL, global)
	eventuallyGets(t, url, "data: one\n\n")
	resp := prompt(t, url, "{}")
	if got := rest(t, resp.Body); got != "data: one\n\n" || resp.Header.Get("X-Vercel-Ai-Ui-Message-Stream") != "v1" {
		t.Errorf("kept: %q, %v", got, resp.Header)
	}
	if n := m.asked.Load(); n != 1 {
		t.Errorf("the application was asked %d times", n)
	}
}
