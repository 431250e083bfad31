package ttlmap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestOneOwnerLeavesRoomForOthers(t *testing.T) {
	now := time.Now()
	until := now.Add(time.Hour)
	var dropped []string
	m := Shared[string, int]{Limit: 6, Share: 4, Dropped: func(key string, _ int) { dropped = append(dropped, key) }}
	set := func(key, owner string, want bool) {
		t.Helper()
		if got := m.Set(key, owner, 0, until, now); got != want {
			t.Errorf("%s of %s: %v", key, owner, got)
		}
	}
	for i := range 5 { // one's own oldest goes at one's share
		set(fmt.Sprint("a", i), "a", true)
	}
	set("b0", "b", true)
	set("b1", "b", true)
	set("c0", "c", true) // the heaviest makes room
	set("c1", "c", true)
	set("a5", "a", true) // now all have two: one's own
	set("d0", "d", true) // who has none, from one who has two
	if want := []string{"a0", "a1", "a2", "a3"}; !slices.Equal(dropped[:4], want) || len(dropped) != 5 {
		t.Errorf("dropped are %v, want first %v", dropped, want)
	}
	if m.Len() != 6 || m.LenOf("d") != 1 {
		t.Errorf("%d entries, %d of d", m.Len(), m.LenOf("d"))
	}
	full := Shared[string, int]{Limit: 2, Share: 2}
	full.Set("a", "a", 0, until, now)
	full.Set("b", "b", 0, until, now)
	if full.Set("c", "c", 0, until, now) {
		t.Error("one of many who have one each has made room")
	}
	if !full.Set("c", "c", 0, until, until.Add(time.Second)) || full.Len() != 1 {
		t.Error("what has expired is in the way")
	}
}

func TestWhatIsSparedOrTouchedStays(t *testing.T) {
	now := time.Now()
	until := now.Add(time.Hour)
	m := Shared[string, int]{Limit: 10, Share: 3, Spare: func(key string) bool { return key[0] == 'x' }}
	for _, key := range []string{"x1", "y1", "y2"} {
		m.Set(key, "a", 0, until, now)
	}
	m.Touch("y1")
	m.Set("x2", "a", 0, until, now) // not x1, nor y1, which was used
	m.Set("x3", "a", 0, until, now)
	m.Set("x4", "a", 0, until, now) // where all are spared, the oldest
	var left []string
	for _, key := range []string{"x1", "x2", "x3", "x4", "y1", "y2"} {
		if _, ok := m.Get(key, now); ok {
			left = append(left, key)
		}
	}
	if want := []string{"x2", "x3", "x4"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}

// At random against what is counted anew each time.
func TestSharesHoldWhateverIsDone(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	m := Shared[int, string]{Limit: 50, Share: 20}
	for range 20_000 {
		now = now.Add(time.Duration(random.IntN(100)) * time.Millisecond)
		key := random.IntN(200)
		name := fmt.Sprint(random.IntN(1 + random.IntN(8)))
		switch random.IntN(10) {
		case 0:
			m.Remove(key)
		case 1:
			m.Touch(key)
		default:
			m.Set(key, name, name, now.Add(time.Duration(random.IntN(20))*time.Second), now)
		}
		counts, most := map[string]int{}, 0
		for _, e := range m.entries {
			counts[e.owner.name]++
			most = max(most, counts[e.owner.name])
		}
		if len(m.entries) > 50 || most > 20 || len(counts) != len(m.owners) || m.Len() > 0 && m.heaviest().count != most {
			t.Fatalf("%d entries, %v, the heaviest should have %d", m.Len(), counts, most)
		}
		for name, n := range counts {
			listed := 0
			for e := m.owners[name].oldest; e != nil; e = e.younger {
				listed++
			}
			if m.LenOf(name) != n || listed != n {
				t.Fatalf("%s has %d, counts %d, lists %d", name, n, m.LenOf(name), listed)
			}
		}
	}
}
