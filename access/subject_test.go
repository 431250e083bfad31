package access

import (
	"encoding/json"
	"testing"
)

func TestClaimsCompareByTheirText(t *testing.T) {
	for _, tt := range []struct {
		name  string
		claim any
		value string
		want  bool
	}{
		{"a string", "admin", "admin", true},
		{"case counts", "Admin", "admin", false},
		{"part of it", "administrator", "admin", false},
		{"a number", float64(5), "5", true},
		{"a number of text", json.Number("5"), "5", true},
		{"another way to write it", json.Number("5.0"), "5", false},
		{"a number that is not exact", float64(9007199254740993), "9007199254740992", false},
		{"true", true, "true", true},
		{"false", false, "true", false},
		{"one of a list", []any{"user", "admin"}, "admin", true},
		{"none of a list", []any{"user"}, "admin", false},
		{"a list of numbers", []any{1.0, 2.0}, "2", true},
		{"a list in a list", []any{[]any{"admin"}}, "admin", false},
		{"words in a string", "user admin", "admin", false},
		{"an object", map[string]any{"admin": true}, "admin", false},
		{"null", nil, "null", false},
		{"nothing", nil, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := subject{who: "claim", claim: "c", value: tt.value}
			if got := p.includes(&Caller{Claims: map[string]any{"c": tt.claim}}); got != tt.want {
				t.Errorf("got %v", got)
			}
			if p.includes(&Caller{}) {
				t.Error("nobody has it")
			}
		})
	}
}
