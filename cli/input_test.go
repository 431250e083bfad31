package cli

import (
	"strings"
	"testing"
)

func TestALineThatIsTooLongIsSaidToBe(t *testing.T) {
	startHub(t)
	out, _, err := run(t, "before\n"+strings.Repeat("a", maxInput+1), "publish", "a", "--lines")
	if err == nil || !strings.Contains(err.Error(), "a line of the standard input has more than 16777216 bytes") {
		t.Errorf("%q, %v", out, err)
	}
}
