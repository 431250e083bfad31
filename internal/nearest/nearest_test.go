package nearest

import "testing"

func TestWordsThatAreAlmostRight(t *testing.T) {
	words := []string{"history", "heartbeat", "allow", "user", "all", "chat", "max_event", "subscribe"}
	for written, want := range map[string]string{
		"histroy": "history", "hearbeat": "heartbeat", "alow": "allow", "users": "user", "chatt": "chat", "subscribes": "subscribe",
		"maxevent": "max_event", "subcsribe": "subscribe", "xyz": "", "": "", "al": "all", "history": "", "hstr": "", "héartbeat": "heartbeat",
	} {
		if got := Word(written, words...); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
	if got := Hint("alow", words...); got != `; did you mean "allow"?` {
		t.Error(got)
	}
}
