package broker

import (
	"strconv"
	"testing"
	"time"
)

// A burst of keys is forgotten with all that it took: what comes after it does
// not pay for it.
func TestABurstOfKeysLeavesNothingBehind(t *testing.T) {
	var w keyWindow
	now := time.Now()
	for i := range 10_000 {
		op := &Op{Key: Key{"a", strconv.Itoa(i)}}
		w.remember(now, op, op.digest(), &Result{})
	}
	now = now.Add(KeyWindow)
	op := &Op{Key: Key{"a", "0"}}
	if w.known(now, op, op.digest(), &Result{}) {
		t.Error("a key is remembered past its window")
	}
	if n := cap(w.order); n > 0 || w.byKey != nil {
		t.Errorf("there is room for %d keys", n)
	}
}
