package hub

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// What has no room is not told, neither that it begins nor that it ends; it is counted, and
// the log says so once. What comes when there is room again is told.
func TestWhatIsActiveIsBoundedAndThatIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h, o := testHub(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}), new(told)
		h.activity.kind.most = 3
		h.Observe(o, true, false)
		var readers []*broker.Subscription
		for i := range 5 {
			readers = append(readers, reader(t, h, fmt.Sprint(i)))
			synctest.Wait()
		}
		for _, r := range readers {
			r.Close()
		}
		time.Sleep(2 * idleAfter)
		synctest.Wait()
		reader(t, h, "4")
		synctest.Wait()
		got := o.all()
		slices.Sort(got)
		if want := []string{"0 active", "0 idle", "1 active", "1 idle", "2 active", "2 idle", "4 active"}; !slices.Equal(got, want) {
			t.Errorf("it is told %q, want %q", got, want)
		}
		if n := h.Stats().Untold; n != 2 {
			t.Errorf("%d channels are counted as not told", n)
		}
		if n := strings.Count(log.String(), "hooks are not told of all"); n != 1 {
			t.Errorf("the log says it %d times: %s", n, log.String())
		}
	})
}

// A node that tells more than it may takes no more memory of another.
func TestWhatAnotherNodeTellsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &sharedLog{nodes: make(map[string]*sharedNode)}
		h := hubOn(t, log.node("a"), Config{})
		h.activity.kind.most = 3
		h.Observe(new(told), true, false)
		for i := range 10 {
			h.activity.hear(&readersNotice{Node: "b", Active: []string{fmt.Sprint(i)}}, "a")
		}
		h.activity.mu.Lock()
		n := len(h.activity.nodes["b"].channels)
		h.activity.mu.Unlock()
		if n != 6 || h.Stats().Untold != 4 {
			t.Errorf("%d channels are remembered, and %d are not", n, h.Stats().Untold)
		}
	})
}
