package evstream

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// only is the only session of a hub.
func only(t *testing.T, h *hub.Hub) *hub.Session {
	t.Helper()
	list := h.Sessions()
	if len(list) != 1 {
		t.Fatalf("%d sessions", len(list))
	}
	return list[0]
}

// mustSend makes a request that must be answered with a status.
func mustSend(t *testing.T, status int, method, url string, change ...func(*http.Request)) string {
	t.Helper()
	got, body := send(t, method, url, "", change...)
	if got != status {
		t.Fatalf("%s %s: %d %s", method, url, got, body)
	}
	return body
}

// What a stream has joined is held to new rules as what it began with, but that it only
// leaves it: who had it join, if that was not its own caller, has to be allowed to.
func TestReloadJudgesWhatStreamsHaveJoined(t *testing.T) {
	address := freeAddress(t)
	config := func(rules ...string) string {
		return site(address, "", "\t\tbearer b one\n\t\tbearer c two\n\t\tallow anyone publish **\n\t\tallow "+strings.Join(rules, "\n\t\tallow "))
	}
	url := "http://" + address + "/live/"
	load(t, config("anyone subscribe a own/*", "b session **", "c session **"))
	stream := subscribe(t, url+"a")
	s := only(t, theHub(t, "default"))
	at := url + "_sessions/" + s.Stream.ID() + "/channels/"
	bearer := func(secret string) func(*http.Request) { return header("Authorization", "Bearer "+secret) }
	for _, name := range []string{"own/kept", "own/lost"} {
		mustSend(t, 200, "PUT", at+name)
	}
	mustSend(t, 200, "PUT", at+"of/b", bearer("one"))
	mustSend(t, 200, "PUT", at+"of/c", bearer("two"))
	if err := reload(t, config("anyone subscribe a own/kept", "b session of/*", "c session elsewhere")); err != nil {
		t.Fatal(err)
	}
	want := []string{"a", "own/kept", "of/b"}
	eventually(t, "the stream to have left what it may not read", func() bool { return slices.Equal(s.Stream.Channels(), want) })
	mustSend(t, 401, "PUT", at+"own/lost")
	mustPublish(t, url+"own/lost", "not for it")
	mustPublish(t, url+"own/kept", "1")
	mustPublish(t, url+"of/b", "2")
	for _, want := range []string{"1", "2"} {
		for {
			e, err := stream.events.Next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(e.Type, "evstream.") {
				continue
			}
			if string(e.Data) != want {
				t.Errorf("got %q, want %q", e.Data, want)
			}
			break
		}
	}
}

func TestSessionsAreUsedThroughAnyNode(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": way.Addr(), "c": server.Addr()})
	stream := subscribe(t, f.at("b", "x"))
	id := only(t, f.hub("b")).Stream.ID()
	admin := func(path, query string) string {
		return "http://" + f.admin + "/evstream/_sessions" + path + "?broker=c" + query
	}
	mustSend(t, 200, "PUT", f.at("a", "_sessions/"+id+"/channels/y")) // it is nobody's, and nobody asks
	if got := mustSend(t, 200, "PUT", admin("/"+id+"/channels/z", "")); !strings.HasSuffix(got, `"channels":["x","y","z"]}`+"\n") {
		t.Errorf("got %s", got)
	}
	mustSend(t, 200, "DELETE", f.at("c", "_sessions/"+id+"/channels/y"))
	if status, body := post(t, admin("/"+id, "&event=hello"), "hello"); status != 204 {
		t.Errorf("%d %s", status, body)
	}
	for {
		e, err := stream.events.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "hello" {
			break
		}
	}
	var info hub.SessionInfo
	if err := json.Unmarshal([]byte(mustSend(t, 200, "GET", admin("/"+id, ""))), &info); err != nil || !slices.Equal(info.Joined, []string{"z"}) {
		t.Errorf("described as %+v, %v", info, err)
	}
	eventually(t, "the nodes to know each other", func() bool {
		members, known := f.hub("c").Broker().Members()
		return known && len(members) == 3
	})
	var ids []string
	for _, node := range []string{"a", "b", "c", "a"} {
		subscribe(t, f.at(node, "x"))
	}
	for after, pages := "", 0; pages == 0 || after != ""; pages++ {
		var page hub.SessionPage
		body := mustSend(t, 200, "GET", admin("", "&limit=2&after="+after))
		if err := json.Unmarshal([]byte(body), &page); err != nil || page.Partial || page.Nodes != 3 || pages > 5 {
			t.Fatalf("%s %v", body, err)
		}
		for _, s := range page.Sessions {
			ids = append(ids, s.Session)
		}
		after = page.Next
	}
	var all []string
	for _, node := range []string{"a", "b", "c"} {
		for _, s := range f.hub(node).Sessions() {
			all = append(all, s.Stream.ID())
		}
	}
	slices.Sort(all)
	if len(all) != 5 || !slices.Equal(ids, all) {
		t.Errorf("listed %q, want %q", ids, all)
	}

	// The node of the session is out of reach.
	way.Cut()
	status, body := send(t, "PUT", admin("/"+id+"/channels/y", ""), "")
	if status != 503 || !strings.Contains(body, `"outcome":"unknown"`) {
		t.Errorf("%d %s", status, body)
	}
	if body := mustSend(t, 200, "GET", admin("", "")); !strings.Contains(body, `"partial":true`) || strings.Contains(body, id) {
		t.Errorf("%s", body)
	}
	if status, body := send(t, "GET", admin("/"+id, ""), ""); status != 503 || strings.Contains(body, "outcome") {
		t.Errorf("%d %s", status, body)
	}
	way.Heal()
	eventually(t, "the node to be in reach", func() bool {
		status, _ := send(t, "DELETE", admin("/"+id, "&reason=over"), "")
		return status == 204 || status == 404 // the outcome of one before was unknown, and it was done
	})
	for {
		e, err := stream.events.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "end" {
			if string(e.Data) != `{"reason":"over"}` {
				t.Errorf("got %s", e.Data)
			}
			break
		}
	}
}
