package cli

import (
	"strings"
	"testing"
)

func TestQuietTellsNothingOfTheConnection(t *testing.T) {
	startHub(t)
	must(t, "", "publish", "a", "1")
	out, notes, err := run(t, "", "subscribe", "a", "--last", "1", "--count", "1", "--json", "--quiet")
	if want := `{"kind":"event","channel":"a","id":"ID","data":"1"}` + "\n"; err != nil || notes != "" || alike(out) != want {
		t.Errorf("%v, %q, got\n%s", err, notes, out)
	}
	must(t, "", "close", "a", "2")
	out, notes, err = run(t, "", "subscribe", "a", "--last", "1", "--json", "-q")
	if want := `{"kind":"event","channel":"a","id":"ID","data":"2"}` + "\n"; err != nil || notes != "" || alike(out) != want {
		t.Errorf("a closed channel: %v, %q, got\n%s", err, notes, out)
	}
	if _, notes, err = run(t, "", "subscribe", "a", "--last-event-id", "1700000000000-0", "--quiet"); err != nil || !strings.Contains(notes, "lost") {
		t.Errorf("no gap is told: %v, %q", err, notes)
	}
}

func TestAPatternHasNoValueToWatch(t *testing.T) {
	startHub(t)
	out, _, err := run(t, "", "state", "watch", "a/*", "--count", "1")
	if out != "" || err == nil || !strings.Contains(err.Error(), "pattern") {
		t.Errorf("%v, %q", err, out)
	}
}
