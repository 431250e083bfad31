package query

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestQueryParameters(t *testing.T) {
	q := Query("a=1&b=x%20y+z&c&d=&a%61=2&&=5&e=%zz")
	for name, want := range map[string]string{"a": "1", "b": "x y z", "c": "", "d": "", "aa": "2"} {
		if got, given, err := q.One(name); got != want || !given || err != nil {
			t.Errorf("%s: %q, %v, %v", name, got, given, err)
		}
	}
	if _, given, err := q.One("nothing"); given || err != nil {
		t.Errorf("nothing: %v, %v", given, err)
	}
	if _, _, err := q.One("e"); err == nil {
		t.Error("a broken value was read")
	}
	// The same as net/url, where both can tell.
	many := url.Values{}
	var want []string
	for i := range 50 {
		many.Add("ch", fmt.Sprint(i, "&="))
		many.Add("ch", fmt.Sprint(i/2, "&="))
		want = append(want, fmt.Sprint(i, "&="))
	}
	got, err := Query(many.Encode()).List("ch")
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestListsKeepTheirOrder(t *testing.T) {
	q := Query("a=3&b=x&a=1&a=3&a&a=%32&a=1")
	if got, err := q.List("a"); err != nil || !slices.Equal(got, []string{"3", "1", "", "2"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, q := range []Query{"", "b=1"} {
		if got, err := q.List("a"); err != nil || got != nil {
			t.Errorf("%q: got %q, %v", q, got, err)
		}
	}
	if _, err := Query("a=1&a=%zz").List("a"); err == nil {
		t.Error("a broken value was read")
	}
}

func TestFlags(t *testing.T) {
	for value, want := range map[string]bool{"x": true, "x=": true, "x=1": true, "x=true": true, "x=0": false, "x=false": false} {
		if got, err := Query("y=2&"+value).Flag("x", !want); got != want || err != nil {
			t.Errorf("%s: %v, %v", value, got, err)
		}
	}
	for _, def := range []bool{true, false} {
		if got, err := Query("y=1").Flag("x", def); got != def || err != nil {
			t.Errorf("not given: %v, %v", got, err)
		}
	}
	for _, bad := range []Query{"x=2", "x=TRUE", "x=1&x=1", "x=%zz", "x=" + Query(strings.Repeat("1", 100))} {
		_, err := bad.Flag("x", false)
		if e, ok := errors.AsType[*Error](err); !ok || e.ProblemKind() != "bad-parameter" || len(err.Error()) > 100 {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestHasAsksForTheNameAlone(t *testing.T) {
	for q, want := range map[Query]bool{"": false, "x": true, "a=1&x=": true, "%78=1": true, "xx=1": false, "a=x": false} {
		if got := q.Has("x"); got != want {
			t.Errorf("%q: %v", q, got)
		}
	}
}

// Most requests have no query, and their parameters are asked for on each.
func TestAParameterThatIsNotThereAllocatesNothing(t *testing.T) {
	for _, q := range []Query{"", "channel=a&retry=1"} {
		if n := testing.AllocsPerRun(100, func() {
			_, _, _ = q.One("poll")
			_ = q.Has("info")
			_, _ = q.List("ch")
		}); n > 0 {
			t.Errorf("%q: %v allocations", q, n)
		}
	}
}
