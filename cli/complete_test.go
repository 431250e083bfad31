package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestAShellCompletesWhatThereIs(t *testing.T) {
	startHub(t)
	must(t, "", "publish", "match.7", "x")
	must(t, "", "publish", "other", "x")
	_, notes, _ := begin(t, "", "subscribe", "lobby")
	id := session(t, notes)
	for _, tt := range []struct{ args, want string }{
		{"publish|", "lobby match.7 other"},
		{"publish|m", "match.7"},
		{"publish|match.7|", ""},
		{"subscribe|a|m", "match.7"},
		{"state|get|o", "other"},
		{"state|g", "get\tPrints the value of a channel"},
		{"channels|m", "match.7"},
		{"end|", id + "\tbearer backend lobby"},
		{"end|" + id + "|", ""},
		{"sessions|join|" + id + "|m", "match.7"},
		{"publish|--url|http://127.0.0.1:1|", ""},
		{"publish|--url|nonsense|", ""},
	} {
		args := append([]string{cobra.ShellCompRequestCmd}, strings.Split(tt.args, "|")...)
		out, _, err := run(t, "", args...)
		got := strings.Split(strings.TrimSpace(out), "\n")
		if text := strings.Join(got[:len(got)-1], " "); err != nil || text != tt.want || got[len(got)-1] != ":4" {
			t.Errorf("%s: %q, %v", tt.args, got, err)
		}
	}
}
