package access

import (
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/problem"
)

// A refusal is a sentence, and still names the verb of the rule that would allow it.
func TestEachVerbIsRefusedInASentence(t *testing.T) {
	policy, err := NewPolicy(rulesOf("anyone subscribe public/**"), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	sentences := map[string]string{
		Subscribe:   "no permission to subscribe, here",
		Publish:     "no permission to publish, here",
		Purge:       "no permission to purge, here",
		ChangeState: "no permission to write values (state), here",
		UseSessions: "no permission to use a session of somebody else (session), here",
		Presence:    "no permission to read who is there (presence), here",
		Console:     "no permission to use the console (console), here",
	}
	for _, verb := range Verbs() {
		want, ok := sentences[verb]
		if verb == Everything {
			continue
		}
		if err := policy.Require(&Caller{Name: "guest"}, verb, "a"); !ok || err == nil || !strings.Contains(problem.Of(err).Detail, want) {
			t.Errorf("%s: %v, want %q", verb, err, want)
		}
	}
}
