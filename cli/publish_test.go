package cli

import (
	"strings"
	"testing"
)

func TestWhatIsPrinted(t *testing.T) {
	startHub(t)
	for _, tt := range []struct{ name, args, in, want string }{
		{"an event", "publish a x --event score", "", "ID\n"},
		{"in JSON", "publish a x --json --key k", "", `{"id":"ID"}` + "\n"},
		{"again", "publish a x --json --key k", "", `{"id":"ID","replayed":true}` + "\n"},
		{"of the input", "publish a", "line\r\n", "ID\n"},
		{"verbatim", "publish a - --verbatim", "line\n", "ID\n"},
		{"lines", "publish a --lines", "1\n2\n3", "3 events, up to ID\n"},
		{"a line", "publish a --lines", "1", "1 event, up to ID\n"},
		{"no line", "publish a --lines", "", "0 events\n"},
		{"lines in JSON", "publish a --lines --json", "1\n2\n", `{"published":2,"id":"ID"}` + "\n"},
		{"what was published", "subscribe a --since earliest --count 9 --raw --quiet", "", "x\nx\nline\nline\n\n1\n2\n3\n1\n1\n"},
		{"and its names", "subscribe a --last 10 --count 1", "", "TIME  score  x\n"},
		{"a set", "state set v 41", "", "ID\n"},
		{"a value", "state get v", "", "41\n"},
		{"a value in JSON", "state get v --json", "", `{"channel":"v","value":41,"version":"ID"}` + "\n"},
		{"a sum", "state add v 1.5", "", "42.5\n"},
		{"a text", "state set t --string --json", "a \"b\"\n", `{"channel":"t","version":"ID"}` + "\n"},
		{"the text", "state get t", "", `"a \"b\""` + "\n"},
		{"an object", "state set o", `{"a":[1]}`, "ID\n"},
		{"a merge patch", `state patch o {"b":2}`, "", "ID\n"},
		{"a JSON patch", `state patch o [{"op":"add","path":"/a/-","value":3}]`, "", "ID\n"},
		{"the object", "state watch o --count 1", "", `{"a":[1,3],"b":2}` + "\n"},
		{"a removal", "state delete o", "", ""},
		{"a removal in JSON", "state delete t --json", "", `{"channel":"t","deleted":true}` + "\n"},
		{"no value", "state watch o --count 1", "", "# no value\n"},
		{"no value in JSON", "state watch o --count 1 --json", "", `{"channel":"o","deleted":true}` + "\n"},
	} {
		if got := alike(must(t, tt.in, strings.Fields(tt.args)...)); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

// What is published in the end is said, also where it ends badly.
func TestLinesThatFailSayHowFarTheyCame(t *testing.T) {
	startHub(t)
	out, _, err := run(t, "1\n\xff\n", "publish", "a", "--lines")
	if err == nil || alike(out) != "1 event, up to ID\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, _, err = run(t, strings.Repeat("x", maxInput+1), "publish", "a"); Status(err) != StatusUsage {
		t.Error(err)
	}
}
