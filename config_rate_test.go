package evstream

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRatesInJSON(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{"per_second":10}`, `{"per_second":10}`},
		{`{"per_second":0.5,"burst":3}`, `{"per_second":0.5,"burst":3}`},
		{`"unlimited"`, `"unlimited"`},
		{`{}`, "would refuse everything"},
		{`{"per_second":0}`, "would refuse everything"},
		{`{"per_second":-1}`, "a rate is from 0.001"},
		{`{"per_second":1e10}`, "a rate is from 0.001"},
		{`{"burst":5}`, "a rate is from 0.001"},
		{`{"per_second":1,"burst":-1}`, "a burst is from 1"},
		{`"off"`, `not "off"`},
		{`10`, `a rate is {"per_second": 100`},
		{`{"per_minute":10}`, `unknown field`},
	} {
		var r Rate
		if err := json.Unmarshal([]byte(tt.json), &r); err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %q", tt.json, err, tt.want)
			}
			continue
		}
		if got, err := json.Marshal(r); err != nil || string(got) != tt.want {
			t.Errorf("%s becomes %s, %v", tt.json, got, err)
		}
	}
}
