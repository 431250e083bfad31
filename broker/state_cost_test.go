package broker

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// allocated is how many bytes f allocates, and how long it runs.
func allocated(f func()) (bytes uint64, took time.Duration) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	f()
	took = time.Since(began)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, took
}

// list is a JSON array of n times item, and then last.
func list(item string, n int, last string) string {
	return "[" + strings.Repeat(item+",", n) + last + "]"
}

// What a change is told as is worked out while all others wait: however the
// values are built, it takes no more than some times their size.
func TestWhatAChangeTakesIsBounded(t *testing.T) {
	wrap := func(open, end, s string) string { return strings.Repeat(open, 62) + s + strings.Repeat(end, 62) }
	key := strings.Repeat("k", 21<<10)
	objects := func(last string) string {
		var members strings.Builder
		for i := range 450 {
			fmt.Fprintf(&members, `"%04d":0,`, i*7919%10000)
		}
		return list("{"+strings.TrimSuffix(members.String(), ",")+"}", 15, last)
	}
	for _, tt := range []struct {
		name     string
		format   StateFormat
		old, new string
	}{
		{"many changes at the end of a long path", FormatJSONPatch, `{"` + key + `":` + list("1", 21000, "1") + `}`, `{"` + key + `":` + list("2", 21000, "2") + `}`},
		{"one change beneath many arrays", FormatJSONPatch, wrap("[", "]", list(`"\n"`, 12900, "1")), wrap("[", "]", list(`"\n"`, 12900, "2"))},
		{"one change beneath many objects", FormatJSONPatch, wrap(`{"a":`, "}", list(`"\n"`, 12900, "1")), wrap(`{"a":`, "}", list(`"\n"`, 12900, "2"))},
		{"one change beneath many objects, as a merge patch", FormatMergePatch, wrap(`{"a":`, "}", list(`"\n"`, 12900, "1")), wrap(`{"a":`, "}", list(`"\n"`, 12900, "2"))},
		{"many objects beneath many arrays", FormatJSONPatch, wrap("[", "]", objects("1")), wrap("[", "]", objects("2"))},
		{"many changes of many arrays", FormatJSONPatch, wrap("[", "]", list("[1]", 16000, "1")), wrap("[", "]", list("[2]", 16000, "2"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := stateBroker(t, func(c *Config) { c.State.Format = tt.format })
			publishAll(t, b, set("a", tt.old))
			s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
			frames(t, s)
			bytes, took := allocated(func() { publishAll(t, b, set("a", tt.new)) })
			t.Logf("%d bytes of a value: %d KiB of memory, %v", len(tt.new), bytes>>10, took)
			if limit := uint64(32 << 20); bytes > limit {
				t.Errorf("%d bytes were allocated, want at most %d", bytes, limit)
			}
		})
	}
}

// Names of values that have gone, or are there, are compared with the patterns
// of a reader a few at a time.
func TestPatternsAreComparedWithNamesInSteps(t *testing.T) {
	b := stateBroker(t)
	start := publishAll(t, b, set("x", "1"))
	name := func(i int) string { return strings.Repeat("a", 240) + fmt.Sprintf("%04d", i) }
	for i := range maxMarkedNames {
		publishAll(t, b, set(name(i), "1"), set(name(i), ""))
	}
	var patterns []string
	for i := range 10 {
		patterns = append(patterns, "*"+strings.Repeat("a", 110+i)+"*b")
	}
	walk := func(t *testing.T, start Start, left func(w *stateSnapshot) int) {
		t.Helper()
		s := subscribeTo(t, b, SubscribeOptions{Channels: patterns, Start: start})
		rest := left(s.values.snapshots[0])
		if rest < 3000 {
			t.Errorf("only %d names are left to compare", rest)
		}
		for s.values.pending() {
			w := s.values.snapshots[0]
			var batch Batch
			if err := s.tellStates(&batch); err != nil || batch.Events > 0 {
				t.Fatalf("%v, %d values", err, batch.Events)
			}
			if n := rest - left(w); n > snapshotStep/len(patterns) {
				t.Fatalf("%d names were compared at once", n)
			}
			rest = left(w)
		}
	}
	t.Run("gone", func(t *testing.T) {
		walk(t, Start{LastEventID: start[0].ID.String()}, func(w *stateSnapshot) int { return len(w.removed) })
	})
	for i := range maxMarkedNames {
		publishAll(t, b, set(name(i), "1"))
	}
	t.Run("there", func(t *testing.T) {
		walk(t, Start{}, func(w *stateSnapshot) int { return len(b.states.slots) - w.slot })
	})
}
