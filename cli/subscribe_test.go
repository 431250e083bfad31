package cli

import (
	"strings"
	"testing"
)

func TestASubscriptionIsFollowed(t *testing.T) {
	server := startHub(t)
	out, notes, _ := begin(t, "", "subscribe", "a", "b/*", "v")
	until(t, notes, "# connected, session ")
	must(t, "two\nlines\n", "publish", "a", "--event", "n", "--verbatim")
	until(t, out, "lines")
	server.CloseClientConnections()
	must(t, "", "publish", "b/1", "\x1b[2Jgone")
	until(t, out, "gone") // a reconnect has values come first
	must(t, "", "state", "set", "v", `{"x":1}`)
	until(t, out, `{"x":1}`)
	must(t, "", "state", "delete", "v")
	must(t, "", "publish", "a", "") // no data
	want := "TIME  a  n  two\n            | lines\n            | \nTIME  b/1  \\x1b[2Jgone\nTIME  v  =  {\"x\":1}\nTIME  v  deleted\nTIME  a\n"
	until(t, out, "  a\n")
	if got := alike(out.String()); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	until(t, notes, "; again in ")
	if n := strings.Count(notes.String(), "# connected, session "); n != 2 {
		t.Errorf("%d connections:\n%s", n, notes)
	}
}

func TestASubscriptionInJSON(t *testing.T) {
	startHub(t)
	first := strings.TrimSpace(must(t, "", "publish", "a", "1", "--event", "n"))
	must(t, "", "publish", "a", "<2>")
	must(t, "", "state", "set", "v", "1")
	out := must(t, "", "subscribe", "a", "v", "--json", "--last-event-id", first, "--count", "2") // the value is newer than the id
	want := `{"kind":"open","id":"ID","session":"SESSION"}
{"kind":"value","channel":"v","value":1}
{"kind":"event","channel":"a","id":"ID","data":"<2>"}
`
	if got := alike(out); got != want {
		t.Errorf("got\n%s", got)
	}
	out = must(t, "", "subscribe", "a", "--json", "--last-event-id", "1700000000000-0", "--count", "1")
	if got := alike(out); !strings.Contains(got, `{"kind":"gap","reason":"restarted","oldest":"ID","newest":"ID"}`+"\n"+`{"kind":"event","channel":"a","event":"n","id":"ID","data":"1"}`) {
		t.Errorf("got\n%s", got)
	}
}

func TestWhenASubscriptionEnds(t *testing.T) {
	startHub(t)
	must(t, "", "publish", "a", "x")
	if out := must(t, "", "subscribe", "a", "--last", "1", "--for", "50ms", "--raw"); out != "x\n" {
		t.Errorf("got %q", out)
	}
	_, _, err := run(t, "", "subscribe", "a", "--last", "1", "--for", "50ms", "--count", "2")
	if err == nil || err.Error() != "1 event of 2 came in 50ms" {
		t.Error(err)
	}
	out, notes, err := run(t, "", "subscribe", "a", "--last-event-id", "nonsense", "--count", "1")
	if err != nil || !strings.Contains(notes, "# events were lost: the hub does not know the last one seen\n") || alike(out) != "TIME  x\n" {
		t.Errorf("%q, %q, %v", out, notes, err)
	}
	_, notes, err = run(t, "", "subscribe", "a", "--last-event-id", "evstream.end")
	if err != nil || notes != "# the stream has ended\n" {
		t.Errorf("%q, %v", notes, err)
	}
}
