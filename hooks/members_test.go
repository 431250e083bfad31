package hooks

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
)

func TestMembersAreTold(t *testing.T) {
	inBubble(t, func(*request) (*http.Response, error) { return status(204) }, func(t *testing.T, k *Hooks, n *internet, _ *bytes.Buffer) {
		if err := k.SetConfig(Config{Hooks: []Hook{{URL: urlA, Events: []string{MemberJoined, MemberLeft}, Channels: []string{"a1"}}}}); err != nil {
			t.Fatal(err)
		}
		k.MemberJoined("a1", "ann")
		k.MemberJoined("a2", "ann")
		synctest.Wait()
		k.MemberLeft("a2", "ann")
		k.MemberLeft("a1", "ann")
		synctest.Wait()
		got := n.requests(urlA)
		if len(got) != 2 {
			t.Fatalf("it is told %d things", len(got))
		}
		for i, name := range []string{MemberJoined, MemberLeft} {
			var payload struct{ Data map[string]string }
			if err := json.Unmarshal(got[i].body, &payload); err != nil {
				t.Fatal(err)
			}
			if d := payload.Data; got[i].name != name || len(d) != 3 || d["broker"] != "default" || d["channel"] != "a1" || d["user"] != "ann" {
				t.Errorf("it is told %s, and not %s", got[i].body, name)
			}
		}
	})
}
