package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/sse"
)

// The process of one of three nodes is killed: its members are gone within 10 s, and the
// readers of the other nodes are told. What was closed is closed for the node that comes
// back, too, until it is opened.
func TestANodeThatIsKilledTakesItsMembersWithIt(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	caddyfile := config("\tevstream {\n\t\tadapter redis redis://"+redis.Addr()+"\n\t\tchannel chat/* {\n\t\t\tpresence\n\t\t\tpresence_grace 500ms\n\t\t}\n\t}\n", `
	evstream /live/* {
		jwt {
			key "`+jwtKey+`"
		}
		allow anyone subscribe,publish,state,presence **
	}
`)
	var nodes []*server
	for range 3 {
		nodes = append(nodes, start(t, caddyfile))
	}
	read := func(n *server, user, query string) *reader {
		t.Helper()
		r, err := connect(t.Context(), plainClient(t), "http://"+n.plain+"/live/chat/1"+query, "Authorization", "Bearer "+tokenOf(t, user, time.Now().Add(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.response.Body.Close() })
		if r.response.StatusCode != http.StatusOK {
			t.Fatal(r.response.Status)
		}
		return r
	}
	document := func(n *server, what string) string {
		t.Helper()
		return get(t, "http://"+n.admin+"/evstream/"+what)
	}
	for i, n := range nodes {
		eventually(t, "the node to know the others", func() bool { return n.metric(`evstream_nodes{broker="default"}`) == 3 })
		if i > 0 {
			read(n, "carol", "")
		}
	}
	told := make(chan sse.Event, 100)
	watcher := read(nodes[0], "ann", "?presence=1")
	go func() {
		defer close(told)
		for {
			e, err := watcher.events.Next()
			if err != nil {
				return
			}
			if e.Type == "evstream.presence" {
				told <- e
			}
		}
	}()
	read(nodes[2], "bob", "")
	tells := func(what string) {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case e := <-told:
				if strings.Contains(string(e.Data), what) {
					return
				}
			case <-deadline:
				t.Fatalf("it was not told %s", what)
			}
		}
	}
	tells(`"count":3`)
	ask := func(n *server, method, path, body string, want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.admin+"/evstream/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := plainClient(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s %s: %s", method, path, answer.Status)
		}
	}
	ask(nodes[2], "POST", "over?close", "last", 200)

	nodes[2].kill()
	tells(`"left":[{"user":"bob"}],"count":2`)
	for _, n := range nodes[:2] {
		eventually(t, "who is there", func() bool {
			doc := document(n, "_presence/chat/1")
			return strings.Contains(doc, `"count":2,`) && strings.Count(doc, `"sessions":1,`) == 2 && !strings.Contains(doc, "bob")
		})
		eventually(t, "as many readers", func() bool { return strings.Contains(document(n, "chat/1?info"), `"subscribers":2,`) })
	}

	nodes[2].restart()
	eventually(t, "the node to know who is there", func() bool {
		return strings.Contains(document(nodes[2], "_presence/chat/1"), `"count":2,`)
	})
	for _, n := range nodes {
		ask(n, "POST", "over", "late", http.StatusConflict)
		if doc := document(n, "over?info"); !strings.Contains(doc, `"closed":`) {
			t.Errorf("its document is %s", doc)
		}
	}
	ask(nodes[2], "DELETE", "over?history", "", http.StatusOK)
	eventually(t, "the channel to be open at another node", func() bool {
		return !strings.Contains(document(nodes[0], "over?info"), `"closed":`)
	})
	for i, n := range nodes {
		ask(n, "POST", "over", fmt.Sprint(i), 200)
	}
}
