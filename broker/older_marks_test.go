package broker

import (
	"fmt"
	"testing"
)

// TestMarksOfWhatIsOlderAreNeverTooLow: they come in descending order, and names that are
// forgotten have the newest one all the same.
func TestMarksOfWhatIsOlderAreNeverTooLow(t *testing.T) {
	t.Parallel()
	m := newLossMarks()
	const names = maxMarkedNames + 500
	want := map[string]ID{}
	for ms := uint64(3 * names); ms > 0; ms-- {
		name := fmt.Sprintf("chat/%d", ms%names)
		if ms%7 == 0 { // as one that is dropped meanwhile
			name = fmt.Sprintf("live/%d", ms)
			want[name] = ID{4*names - ms, 0}
			m.raise(name, want[name])
			continue
		}
		want[name] = latest(want[name], ID{ms, 0})
		m.raiseOlder(name, ID{ms, 0})
	}
	for name, id := range want {
		if id.After(m.of(name)) {
			t.Fatalf("the mark of %s is %s, and %s is lost", name, m.of(name), id)
		}
	}
	if id := m.of("orders/7"); !id.IsZero() {
		t.Errorf("a name that lost nothing has the mark %s", id)
	}
}
