package broker

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

func keyed(key string) Op {
	op := text("x")
	op.Key = Key{"me", key}
	return op
}

func give(t *testing.T, l *MemoryLog, ops ...Op) []Result {
	t.Helper()
	results, err := l.Append(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// burst appends with 1,000 keys, each so long after the one before, in a bubble.
func burst(t *testing.T, l *MemoryLog, apart time.Duration) {
	t.Helper()
	for i := range 1000 {
		give(t, l, keyed(strconv.Itoa(i)))
		time.Sleep(apart)
	}
}

// A burst of keys is forgotten with all that it took, also where no operation
// has a key any more.
func TestABurstOfKeysLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewMemory()
		burst(t, l, 100*time.Millisecond)
		oldest := weak.Make(l.decide.keys.generations[0].oldest)
		newest := weak.Make(l.decide.keys.generations[1].newest)
		time.Sleep(KeyWindow)
		give(t, l, text("x"))
		runtime.GC()
		if oldest.Value() != nil || newest.Value() != nil {
			t.Error("records are kept past the window")
		}
		if n := len(l.decide.keys.generations); n > 0 || l.decide.keys.count != 0 {
			t.Errorf("%d keys in %d generations", l.decide.keys.count, n)
		}
	})
}

// The log is locked meanwhile: what is past the window is not removed one by one.
func TestABurstOfKeysIsForgottenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewMemory()
		burst(t, l, 10*time.Millisecond)
		records := l.decide.keys.generations[0].byKey
		time.Sleep(KeyWindow - 5*time.Second)
		if r := give(t, l, keyed("0")); r[0].Repeated {
			t.Error("a key is known past its window, because others of its generation are")
		}
		if r := give(t, l, keyed("999")); !r[0].Repeated {
			t.Error("a key is forgotten within its window, because others of its generation are")
		}
		if n := l.decide.keys.count; n != 1001 {
			t.Errorf("%d records while some of the generation are in the window, want 1001", n)
		}
		time.Sleep(5 * time.Second)
		give(t, l, keyed("new"))
		if len(records) != 1000 {
			t.Errorf("%d records were removed one by one", 1000-len(records))
		}
		if n := l.decide.keys.count; n != 2 {
			t.Errorf("%d records after the window, want 2", n)
		}
	})
}

func TestAKeyThatIsUsedAgainIsNotForgottenWithItsOldRecord(t *testing.T) {
	for name, most := range map[string]int{
		"dropped with its generation":   maxKeys,
		"removed to make room for more": 2,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewMemory()
				l.decide.keys.max = most
				first := give(t, l, keyed("k"))[0]
				time.Sleep(30 * time.Second)
				give(t, l, keyed("l"))
				time.Sleep(KeyWindow - 30*time.Second)
				second := give(t, l, keyed("k"))[0]
				if second.Err != nil || second.Repeated || second.ID == first.ID {
					t.Fatalf("past the window: %+v, want a new event", second)
				}
				for range 2 {
					time.Sleep(KeyWindow/2 - time.Millisecond)
					if r := give(t, l, keyed("k"))[0]; !r.Repeated || r.ID != second.ID {
						t.Errorf("within the window: %+v, want %s again", r, second.ID)
					}
				}
			})
		})
	}
}

func TestAFullTableAdmitsAsManyKeysAsArePastTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewMemory()
		l.decide.keys.max = 4
		for i := range 4 {
			give(t, l, keyed(strconv.Itoa(i)))
			time.Sleep(10 * time.Second)
		}
		time.Sleep(KeyWindow - 40*time.Second - time.Millisecond)
		refused := func(op Op) bool {
			t.Helper()
			r := give(t, l, op)[0]
			if r.Err != nil && !errors.Is(r.Err, ErrTooManyKeys) {
				t.Fatal(r.Err)
			}
			return r.Err != nil
		}
		if !refused(keyed("early")) {
			t.Error("one key too many")
		}
		time.Sleep(time.Millisecond)
		for i := range 4 {
			if refused(keyed("new" + strconv.Itoa(i))) {
				t.Errorf("refused with a key that is past the window, the %d. time", i+1)
			}
			if !refused(keyed("early")) {
				t.Errorf("one key too many, the %d. time", i+1)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

func TestNoKeyIsForgottenEarlyWhenTheClockStepsBack(t *testing.T) {
	now := time.Now()
	l := newMemory(func() time.Time { return now })
	give(t, l, keyed("k"))
	now = now.Add(-2 * KeyWindow)
	give(t, l, keyed("l"))
	now = now.Add(3*KeyWindow - 1)
	if r := give(t, l, keyed("k"), keyed("l")); !r[0].Repeated || !r[1].Repeated {
		t.Errorf("within the window: %+v", r)
	}
	now = now.Add(1)
	if r := give(t, l, keyed("k"), keyed("l")); r[0].Repeated || r[1].Repeated || l.decide.keys.count != 2 {
		t.Errorf("past the window: %+v, %d records", r, l.decide.keys.count)
	}
}

// At random, against a list of when each key came.
func TestKeysAreKnownForTheWindowAndNoLonger(t *testing.T) {
	type use struct {
		key string
		at  time.Time
		id  ID
	}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		most := 5 + random.IntN(30)
		pause := 1 + random.Int64N(60_000) // at most, in milliseconds
		synctest.Test(t, func(t *testing.T) {
			l := NewMemory()
			l.decide.keys.max = most
			var uses []use // those within the window
			for range 2000 {
				time.Sleep(time.Duration(random.Int64N(pause)) * time.Millisecond)
				for len(uses) > 0 && time.Since(uses[0].at) >= KeyWindow {
					uses = uses[1:]
				}
				if random.IntN(4) == 0 {
					give(t, l, text("x"))
					continue
				}
				key := strconv.Itoa(random.IntN(60))
				var known use
				for _, u := range uses {
					if u.key == key {
						known = u
					}
				}
				r := give(t, l, keyed(key))[0]
				switch {
				case known.key != "":
					if !r.Repeated || r.ID != known.id {
						t.Fatalf("seed %d: key %s: %+v, want %s again", seed, key, r, known.id)
					}
				case len(uses) == most:
					if !errors.Is(r.Err, ErrTooManyKeys) {
						t.Fatalf("seed %d: %+v with %d keys", seed, r, len(uses))
					}
				default:
					if r.Err != nil || r.Repeated {
						t.Fatalf("seed %d: key %s: %+v with %d keys of %d, want a new event", seed, key, r, len(uses), most)
					}
					uses = append(uses, use{key, time.Now(), r.ID})
				}

				var records, listed int
				for _, g := range l.decide.keys.generations {
					records += len(g.byKey)
					for r := g.oldest; r != nil; r = r.next {
						if g.byKey[r.key] == r {
							listed++
						}
					}
				}
				if n := l.decide.keys.count; n != records || n != listed || n > most || n < len(uses) {
					t.Fatalf("seed %d: %d are counted of %d records, %d of them listed; %d are in the window and %d allowed",
						seed, n, records, listed, len(uses), most)
				}
				if n := len(l.decide.keys.generations); n > 6 {
					t.Fatalf("seed %d: %d generations", seed, n)
				}
			}
		})
	}
}
