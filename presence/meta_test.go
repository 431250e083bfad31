package presence

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, watching := open(t, Policy{Meta: []string{"name", "age"}}), new(sink)
		defer table.Close(t.Context())
		claims := map[string]any{"name": "Ann <3", "secret": "x"}
		table.Join(&Session{User: "ann", Claims: claims, Sink: watching}, "a", true)
		wantData(t, watching, `{"channel":"a","members":[{"user":"ann","meta":{"name":"Ann <3"}}],"count":1}`)
		if err := table.SetMeta("a", "ann", json.RawMessage(`{"status":"away"}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		wantData(t, watching, `{"channel":"a","joined":[],"left":[],"updated":[{"user":"ann","meta":{"status":"away"}}],"count":1}`)
		// Another tab does not undo it.
		table.Join(&Session{User: "ann", Claims: claims}, "a", false)
		time.Sleep(2 * time.Second)
		wantData(t, watching)
		if err := table.SetMeta("a", "bob", nil); err != ErrNotMember {
			t.Errorf("the error is %v", err)
		}
		// What is too large is left out.
		table.Join(&Session{User: "cleo", Claims: map[string]any{"name": strings.Repeat("x", MaxMeta)}}, "a", false)
		time.Sleep(2 * time.Second)
		wantData(t, watching, `{"channel":"a","joined":[{"user":"cleo","since":"2000-01-01T00:00:03.1Z"}],"left":[],"count":2}`)
	})
	for _, tt := range []struct {
		text string
		ok   bool
	}{
		{`{}`, true},
		{` { "a" : 1 } `, true},
		{`null`, false},
		{`[]`, false},
		{`"x"`, false},
		{`{`, false},
		{``, false},
		{`{} x`, false},
		{`{"a":"` + strings.Repeat("x", MaxMeta-8) + `"}`, true},
		{`{"a":"` + strings.Repeat("x", MaxMeta-7) + `"}`, false},
	} {
		if _, err := CheckMeta([]byte(tt.text)); (err == nil) != tt.ok {
			t.Errorf("%.20q: %v", tt.text, err)
		}
	}
}

func TestMetadataReachesTheNodeOfTheMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{Members: 2}), l.node(t, "b", Policy{Members: 2})
		defer a.Close(context.Background())
		defer b.Close(context.Background())
		bob, bobAtA := &Session{User: "bob"}, &Session{User: "bob"}
		b.Join(bob, "x", false)
		time.Sleep(2 * time.Second)
		if err := a.SetMeta("x", "bob", json.RawMessage(`{"s":1}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		for _, node := range []*Table{a, b} {
			if page := node.Members("x", "", 10); string(page.Members[0].Meta) != `{"s":1}` {
				t.Errorf("%s has %+v", node.config.Node, page)
			}
		}
		// A tab at another node does not undo it.
		a.Join(bobAtA, "x", false)
		time.Sleep(2 * time.Second)
		if page := b.Members("x", "", 10); string(page.Members[0].Meta) != `{"s":1}` || page.Members[0].Sessions != 2 {
			t.Errorf("with two tabs there is %+v", page)
		}
		// While there are too many members to tell their names, metadata is not told.
		for _, user := range []string{"c", "d"} {
			a.Join(&Session{User: user}, "x", false)
		}
		time.Sleep(2 * time.Second)
		if err := a.SetMeta("x", "c", json.RawMessage(`{"s":2}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if page := b.Members("x", "", 10); page.Members != nil || page.Count != 3 {
			t.Errorf("over the bound there is %+v", page)
		}
		if row := b.rooms["x"].members["c"].others[b.peers.all["a"]]; row.meta != nil {
			t.Errorf("over the bound the metadata was told: %s", row.meta)
		}
		// When there are few enough again, by what happens at the other node, it is.
		b.LeaveAll(bob, -1)
		time.Sleep(2 * time.Second)
		a.LeaveAll(bobAtA, -1)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if page := b.Members("x", "", 10); len(page.Members) != 2 || string(page.Members[0].Meta) != `{"s":2}` {
			t.Errorf("under the bound there is %+v", page)
		}
	})
}
