package hub

import (
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// A schema that names itself twice for one place doubles the work with each level.
func TestACheckTakesSoManySteps(t *testing.T) {
	rules, err := rulesOf(t, `{"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		depth int
		want  string
	}{{2, ""}, {60, "takes more than the 5"}, {2, ""}} {
		depth, want := tt.depth, tt.want
		data := strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
		for range 2 { // with the same checker again, also after a check that was ended
			err := rules.check(&broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}})
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%d levels: %v, want %q", depth, err, want)
			}
		}
	}
}
