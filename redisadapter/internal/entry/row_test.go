package entry

import (
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestRowsOfValuesAreRead(t *testing.T) {
	for text, want := range map[string]Row{
		"5-1 6 7  abc":          {Version: broker.ID{Ms: 5, N: 1}, Written: 6, Size: 7},
		"5-1 6 7 s abc":         {Version: broker.ID{Ms: 5, N: 1}, Written: 6, Size: 7, Session: "s"},
		"5-1 6 7 a session abc": {Version: broker.ID{Ms: 5, N: 1}, Written: 6, Size: 7, Session: "a session"},
	} {
		if got, ok := ParseRow(text); !ok || got != want {
			t.Errorf("%q is %+v, %t", text, got, ok)
		}
	}
	for _, text := range []string{"", "5-1", "5-1 6 7", "5-1 6 7 ", "x 6 7 s d", "5-1 x 7 s d", "5-1 6 x s d"} {
		if got, ok := ParseRow(text); ok {
			t.Errorf("%q is %+v", text, got)
		}
	}
}
