package audience

import (
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestWhoGetsAnEventIsKeptInAnOperation(t *testing.T) {
	ann, bob := strings.Repeat("A", 22), "node."+strings.Repeat("B", 21)+"A"
	for name, tt := range map[string]struct {
		to, except []string
		session    string // the one that older nodes know
		want       *broker.Filter
	}{
		"everybody":            {},
		"nothing":              {except: []string{""}},
		"a session":            {except: []string{ann}, session: ann},
		"a session, spelt out": {except: []string{"session:" + bob}, session: bob},
		"two sessions":         {except: []string{ann, bob}, session: ann, want: &broker.Filter{Except: []string{"session:" + bob}}},
		"a user and a session": {except: []string{"user:a", ann}, session: ann, want: &broker.Filter{Except: []string{"user:a"}}},
		"to some, but for one": {to: []string{"user:a", "claim:b=c=d"}, except: []string{ann}, session: ann, want: &broker.Filter{To: []string{"user:a", "claim:b=c=d"}}},
		"as many as may be":    {to: slices.Repeat([]string{"user:a"}, maxTerms), want: &broker.Filter{To: slices.Repeat([]string{"user:a"}, maxTerms)}},
	} {
		var op broker.Op
		if err := Set(&op, tt.to, tt.except); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := op.Filter
		if op.Except != tt.session || (f == nil) != (tt.want == nil) || f != nil && (!slices.Equal(f.To, tt.want.To) || !slices.Equal(f.Except, tt.want.Except)) {
			t.Errorf("%s: %q, %+v", name, op.Except, f)
		}
	}
	for name, tt := range map[string]struct{ to, except []string }{
		"one too many":         {to: slices.Repeat([]string{"user:a"}, maxTerms), except: []string{"user:b"}},
		"nothing, beside some": {except: []string{"", "user:a"}},
		"a session too long":   {except: []string{strings.Repeat("n", maxSession) + "." + ann}},
		"a session in to":      {to: []string{ann}},
	} {
		var op broker.Op
		if err := Set(&op, tt.to, tt.except); err == nil {
			t.Errorf("%s: %q, %+v", name, op.Except, op.Filter)
		}
	}
}
