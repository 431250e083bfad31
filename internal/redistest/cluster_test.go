package redistest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestClusterSharesTheSlots(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 0, Password("secret"), TLS())
	if n := len(c.Masters()); n != 3 || len(c.Nodes()) != 3 {
		t.Fatalf("%d masters of %d nodes", n, len(c.Nodes()))
	}
	for i := range 50 {
		set(t, c.Client(), fmt.Sprint(i), "1")
	}
	for _, node := range c.Nodes() {
		if n := node.Client().DBSize(t.Context()).Val(); n == 0 {
			t.Errorf("%s has no key", node.Addr())
		}
	}
	c.MigrateSlot(c.Slot("1"), c.Nodes()[0])
	wantValue(t, c.Client(), "1", "1")
}

func TestSlotMovesWhileAClientReads(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 0)
	const key = "{moving}0"
	for i := range 250 { // batches
		set(t, c.Client(), fmt.Sprintf("{moving}%d", i), fmt.Sprint(i))
	}
	slot := c.Slot(key)

	stop := make(chan struct{})
	var reads int
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := c.Client().Get(t.Context(), key).Err(); err != nil {
				failed = errors.Join(failed, err)
				return
			}
			reads++
		}
	})
	first := c.Owner(slot)
	for range 3 {
		for _, to := range c.Nodes() {
			c.MigrateSlot(slot, to)
			if got := c.Owner(slot); got != to {
				t.Errorf("the slot is at %s, not at %s", got.Addr(), to.Addr())
			}
		}
	}
	c.MigrateSlot(slot, first)
	c.MigrateSlot(slot, first) // nothing to do
	close(stop)
	wg.Wait()
	if failed != nil || reads == 0 {
		t.Errorf("after %d reads: %v", reads, failed)
	}
	for i := range 250 {
		wantValue(t, c.Client(), fmt.Sprintf("{moving}%d", i), fmt.Sprint(i))
	}
	// Another node redirects to the owner.
	other := c.Nodes()[slices.IndexFunc(c.Nodes(), func(s *Server) bool { return s != first })]
	if err := other.Client().Get(t.Context(), key).Err(); !redis.HasErrorPrefix(err, "MOVED") {
		t.Errorf("another node says %v", err)
	}
}

func TestReplicasTakeThePlaceOfMasters(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 1)
	set(t, c.Client(), "a", "1")
	first := c.Owner(c.Slot("a"))

	// By command.
	second := c.Failover(first)
	if second == first || c.Owner(c.Slot("a")) != second || !slices.Contains(c.Replicas(first), second) {
		t.Fatal("the master is not its replica")
	}
	eventually(t, "the client to find the new master", func() bool {
		return c.Client().Set(t.Context(), "a", "2", 0).Err() == nil
	})
	c.AwaitReady()

	// After a crash.
	second.Kill()
	if got := c.AwaitFailover(second); got != first {
		t.Fatal("the former master is not the master again")
	}
	wantValue(t, first.Client(), "a", "2")
	second.Restart()
	c.AwaitReady()
	if n := len(c.Masters()); n != 3 {
		t.Errorf("%d masters", n)
	}
	eventually(t, "the client to find the new master", func() bool {
		return c.Client().Set(t.Context(), "a", "3", 0).Err() == nil
	})
}
