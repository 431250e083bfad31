package evstream

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/stream"
)

// present has a user in a channel whose stream nobody reads, so that many cost little.
func present(t *testing.T, e *testSite, user, channel string) {
	t.Helper()
	st, err := e.hub.NewStream(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{channel}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close(stream.ReasonClient) })
	meta, err := presence.CheckMeta([]byte(`{"about":"` + strings.Repeat("x", 1000) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	s := &hub.Session{Stream: st, Address: "127.0.0.1"}
	if err := e.hub.Add(s, hub.Standing{Caller: &access.Caller{User: user, Method: access.ByToken, Meta: meta}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.hub.Remove(s) })
}

// membersDoc is a document or an event of who is in a channel.
type membersDoc struct {
	Members, Joined *[]struct {
		User string
		Meta json.RawMessage
	}
	Count int
	Next  string
}

// At the highest bound a snapshot has a thousand members with all their metadata, in one
// event of a megabyte. With one more only the number is told: to who watches, to who
// comes, and in the document; and when that one has gone, the names are there again.
func TestAThousandMembersAreToldByNameAndNotOneMore(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, func(c *siteConfig) {
			c.handler.JWT = &JWTConfig{Keys: []JWTKey{{Key: authtest.Secret}}}
			c.handler.Allow = rulesOf("user subscribe,presence **", "backend all **")
			c.broker.Channels = []ChannelConfig{{Pattern: "chat", Presence: true, PresenceMembers: presence.MaxMembers, PresenceGrace: caddy.Duration(time.Millisecond)}}
		})
		read := func(text string) (doc membersDoc) {
			t.Helper()
			if err := json.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatalf("%v in %.200s", err, text)
			}
			return doc
		}
		event := func(r *blockReader) membersDoc {
			t.Helper()
			_, data, ok := strings.Cut(r.event(), "event: evstream.presence\ndata: ")
			if !ok {
				t.Fatal("the event is another one")
			}
			return read(data)
		}
		page := func(query string) membersDoc {
			t.Helper()
			return read(bodyOf(t, ask(t, e, asBackend("GET", "/live/_presence/chat"+query, ""))))
		}
		for i := range presence.MaxMembers - 1 {
			present(t, e, fmt.Sprintf("user%04d", i), "chat")
		}
		watching := openStream(t, e, "/live/chat?presence=1", namedToken(t, "ann"))
		watching.opened()
		snapshot := event(watching)
		if snapshot.Members == nil || len(*snapshot.Members) != 1000 || snapshot.Count != 1000 {
			t.Fatalf("the snapshot has %d members by number", snapshot.Count)
		}
		for i, m := range (*snapshot.Members)[1:] {
			if want := fmt.Sprintf("user%04d", i); m.User != want || len(m.Meta) < 1000 {
				t.Fatalf("member %d is %s with %d bytes, not %s", i, m.User, len(m.Meta), want)
			}
		}
		if doc := page("?limit=1000"); len(*doc.Members) != 1000 || doc.Next != "" || doc.Count != 1000 {
			t.Errorf("a page of 1000 has %d, and next %q", len(*doc.Members), doc.Next)
		}
		names, doc := 0, page("")
		for ; doc.Next != ""; doc = page("?after=" + doc.Next) {
			names += len(*doc.Members)
		}
		if names+len(*doc.Members) != 1000 {
			t.Errorf("all pages have %d", names+len(*doc.Members))
		}

		zoe := openStream(t, e, "/live/chat", namedToken(t, "zoe"))
		zoe.opened()
		if told := event(watching); told.Members != nil || told.Joined != nil || told.Count != 1001 {
			t.Errorf("it is told %+v", told)
		}
		late := openStream(t, e, "/live/chat?presence=1", namedToken(t, "ann")) // a member already
		late.opened()
		if told := event(late); told.Members != nil || told.Joined != nil || told.Count != 1001 {
			t.Errorf("who comes is told %+v", told)
		}
		for _, query := range []string{"", "?limit=1000", "?after=user0500&limit=1"} {
			if doc := page(query); doc.Members != nil || doc.Next != "" || doc.Count != 1001 {
				t.Errorf("the document has %d, next %q", doc.Count, doc.Next)
			}
		}
		zoe.cancel()
		eventually(t, "the names to be there again", func() bool {
			doc := page("?limit=1000")
			return doc.Count == 1000 && doc.Members != nil && len(*doc.Members) == 1000
		})
	})
}
