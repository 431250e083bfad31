package ttlmap

import (
	"fmt"
	"testing"
	"time"
)

func TestExpiringEntriesLeaveAndAreBounded(t *testing.T) {
	e := Map[int, string]{Limit: 2000}
	now := time.Unix(1763700000, 0)
	for i := range 2000 {
		until := now.Add(time.Minute)
		if i%2 == 0 {
			until = time.Time{}
		}
		if !e.Set(i, fmt.Sprint(i), until, now) {
			t.Fatalf("%d found no room", i)
		}
	}
	if e.Set(2000, "x", time.Time{}, now) {
		t.Error("it holds more than its limit")
	}
	if !e.Set(0, "changed", time.Time{}, now) {
		t.Error("what is there cannot be changed")
	}
	later := now.Add(time.Minute)
	if v, ok := e.Get(0, later); !ok || v != "changed" {
		t.Errorf("got %q, %t", v, ok)
	}
	if _, ok := e.Get(1, later); ok {
		t.Error("an entry did not leave")
	}
	if !e.Set(2000, "x", time.Time{}, later) || e.Len() != 1001 {
		t.Errorf("%d entries are left", e.Len())
	}
}
