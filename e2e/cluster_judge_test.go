package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// TestTheWitnessOfAClusterFindsWhatIsWrong is the test of judge.
func TestTheWitnessOfAClusterFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	// Redis has b to f; it had x once, and a was checked before.
	names := "abcxdef"
	var want truth
	for i, name := range names {
		if name != 'a' {
			want = append(want, entry{id: broker.ID{Ms: uint64(i)}, channel: string(name), sum: uint64(name), gone: name == 'x'})
		}
	}
	for _, tt := range []struct{ got, bad string }{
		{got: "bcxdef"},
		{got: "bc|def"},                        // x is lost, and a gap says so
		{got: "bcd|ef"},                        // later
		{got: "bcxd?|ef"},                      // Redis lost what came
		{got: "bcxd??|cxdef"},                  // and the gap goes back
		{got: "bcxd?|abcxdef"},                 // far back
		{got: "bcxdef|"},                       //
		{got: "bcxdef?|def"},                   //
		{got: "bcxd?|?|ef"},                    //
		{got: "bcdef", bad: "silent"},          // x is lost, and nothing says so
		{got: "bxdef", bad: "c is missing"},    //
		{got: "cxdef", bad: "b is missing"},    //
		{got: "bcxde", bad: "f is missing"},    //
		{got: "bc|xde|", bad: "f is missing"},  //
		{got: "b|xdef", bad: "c is missing"},   // a gap is no excuse
		{got: "bccxdef", bad: "twice"},         //
		{got: "bcxdefb", bad: "twice"},         //
		{got: "bxcdef", bad: "c is missing"},   // order
		{got: "bcxd?ef", bad: "no gap"},        // what is lost is to be said
		{got: "bcxdef?", bad: "no gap"},        //
		{got: "bcxd|bdef", bad: "not what is"}, // what comes again is whole
		{got: "abcxdef", bad: "no gap"},        // it came again by itself
		{got: "bcxd!f", bad: "other data"},     // e with other data
		{got: "bcxd|", bad: "e is missing"},    //
		{got: "", bad: "b is missing"},         //
	} {
		var got []record
		for i, name := range tt.got {
			at := strings.IndexRune(names, name)
			switch name {
			case '|':
				got = append(got, record{gap: "diverged"})
			case '?':
				got = append(got, record{id: broker.ID{Ms: 4, N: uint64(i + 1)}})
			case '!':
				got = append(got, record{id: broker.ID{Ms: 5}, sum: 1})
			default:
				got = append(got, record{id: broker.ID{Ms: uint64(at)}, sum: uint64(name)})
			}
		}
		v, err := judge(got, want, broker.ID{Ms: 0})
		if err == nil && v.silent > 0 {
			err = errors.New("silent")
		}
		if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
			t.Errorf("%q: %v", tt.got, err)
		}
	}
}
