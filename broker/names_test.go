package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestANameIndexIsAnOrderedSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var x nameIndex
	have := map[string]bool{}
	for i := range 30_000 {
		name := fmt.Sprintf("%c/%d", 'a'+rng.IntN(5), rng.IntN(3000))
		// It grows, then shrinks to nothing.
		switch grow := i < 15_000; {
		case !have[name] && grow:
			x.add(name)
			have[name] = true
		case have[name] && (!grow || rng.IntN(4) == 0):
			x.remove(name)
			delete(have, name)
		}
		x.remove("not/there")
		if i%1000 == 0 {
			sorted := make([]string, 0, len(have))
			for name := range have {
				sorted = append(sorted, name)
			}
			slices.Sort(sorted)
			if got := slices.Collect(x.with("")); !slices.Equal(got, sorted) {
				t.Fatalf("step %d: %d names, want %d", i, len(got), len(sorted))
			}
			for _, prefix := range []string{"", "c", "c/1", "c/11", "f", "a/2999"} {
				var want []string
				for _, name := range sorted {
					if strings.HasPrefix(name, prefix) {
						want = append(want, name)
					}
				}
				if got := slices.Collect(x.with(prefix)); !slices.Equal(got, want) {
					t.Fatalf("step %d: %d names begin with %q, want %d", i, len(got), prefix, len(want))
				}
			}
			if most := 4*len(have)/maxRun + 4; len(x.runs) > most {
				t.Fatalf("%d names are in %d runs, at most %d are expected", len(have), len(x.runs), most)
			}
		}
	}
	for name := range have {
		x.remove(name)
	}
	if len(x.runs) != 0 {
		t.Errorf("%d runs are left", len(x.runs))
	}
}

// A list must not look at all channels: with many of them publishing would wait.
func TestAListOfChannelsBeginsWhereItIsAsked(t *testing.T) {
	b := newBroker(t)
	for i := range 5000 {
		publish(t, b, fmt.Sprintf("c/%04d", i), "1")
	}
	publish(t, b, "c/", "beneath")
	setTo(t, b, "c/0001x", "1")
	setTo(t, b, "c/0003", "1")
	setTo(t, b, "d", "1")
	names := func(prefix, after string, limit int) (names []string) {
		list, more := b.Channels(prefix, after, limit)
		for _, info := range list {
			names = append(names, info.Name)
		}
		if more {
			names = append(names, "more")
		}
		return names
	}
	for _, tt := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 1, []string{"c/0000", "more"}},
		{"c/0", "c/0000", 3, []string{"c/0001", "c/0001x", "c/0002", "more"}},
		{"", "c/4998", 5, []string{"c/4999", "d"}},
		{"c/", "c/4998", 5, []string{"c/4999"}},
		{"c/49", "c/0", 2, []string{"c/4900", "c/4901", "more"}},
		{"d", "c", 1, []string{"d"}},
		{"e", "", 1, nil},
	} {
		if got := names(tt.prefix, tt.after, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("prefix %q after %q: %q, want %q", tt.prefix, tt.after, got, tt.want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { b.Channels("", "c/2500", 1) }); n > 40 {
		t.Errorf("a list of one channel of 5,000 allocates %.0f times", n)
	}
	publishAll(t, b, Op{Kind: KindState, Channel: "c/0001x", State: &StateOp{}})
	if got := names("c/0001", "", 9); !slices.Equal(got, []string{"c/0001"}) {
		t.Errorf("%q are listed, want those that there are", got)
	}
}
