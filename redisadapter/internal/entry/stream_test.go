package entry

import (
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

func TestStreamsAreNamedAfterTheirPolicies(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]broker.Policy{
		Live:                   {},
		"1000-3600000-1048576": {Events: 1000, Age: time.Hour, Bytes: 1 << 20},
		"5-0-7":                {Events: 5, Bytes: 7},
	} {
		if p, ok := PolicyOf(name); !ok || p != want {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
	}
	for _, name := range []string{"", "1-2", "1-2-3-4", "-1-2-3", "1-a-3", "01-2-3", "0-1-2"} {
		if p, ok := PolicyOf(name); ok {
			t.Errorf("%q is %+v", name, p)
		}
	}
}
