package presence

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"
)

// When a member of another node leaves, and there are few enough members again, the
// node that has told its own without their metadata tells that: nobody else has it.
func TestMetadataIsToldWhenAnotherNodeMakesRoomForNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{Members: 2}), l.node(t, "b", Policy{Members: 2})
		defer a.Close(context.Background())
		defer b.Close(context.Background())
		bob := &Session{User: "bob"}
		b.Join(bob, "x", false)
		b.Join(&Session{User: "dan"}, "x", false)
		time.Sleep(2 * time.Second)
		a.Join(&Session{User: "ann"}, "x", false)
		if err := a.SetMeta("x", "ann", json.RawMessage(`{"s":1}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if row := b.rooms["x"].members["ann"].others[b.peers.all["a"]]; row.meta != nil {
			t.Fatalf("over the bound the metadata was told: %s", row.meta)
		}
		b.LeaveAll(bob, -1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if page := b.Members("x", "", 1); page.Count != 2 || len(page.Members) != 1 || string(page.Members[0].Meta) != `{"s":1}` {
			t.Errorf("under the bound there is %+v", page)
		}
	})
}
