package access

import "testing"

func TestATermNamesACaller(t *testing.T) {
	ann := &Caller{User: "ann", Claims: map[string]any{"role": "admin", "roles": []any{"reader", "a=b"}, "empty": "", "n": 7.0}}
	for term, want := range map[string]bool{
		"user:ann": true, "user:an": false, "user:": false, "user": false, "ann": false, "User:ann": false,
		"claim:role=admin": true, "claim:roles=reader": true, "claim:roles=a=b": true, "claim:role=": false, "claim:role": false,
		"claim:empty=": false, "claim:empty": false, "claim:=": false, "claim:none=x": false, "session:ann": false, "": false,
	} {
		if got := ann.Is(term); got != want {
			t.Errorf("ann is %q: %v", term, got)
		}
	}
	for _, nobody := range []*Caller{AnonymousCaller(), {Claims: map[string]any{"role": "admin"}}} {
		if nobody.Is("user:") || nobody.Is("user:ann") || nobody.Is("claim:") {
			t.Error("a caller without a user is one")
		}
	}
}
