package evstream

import (
	"strings"
	"testing"
)

// A reload that gives a channel presence ends the streams that read who is there: they come
// back, and are told of it. Streams that do not read it go on.
func TestAReloadChangesWhichChannelsHavePresence(t *testing.T) {
	address := freeAddress(t)
	config := func(channels ...string) string {
		var blocks string
		for _, c := range channels {
			blocks += "\t\tchannel " + c + " {\n\t\t\tpresence\n\t\t}\n"
		}
		return site(address, "\tevstream {\n"+blocks+"\t}\n", tokenBlock+"\t\tallow anyone subscribe,publish,presence **")
	}
	load(t, config("a"))
	url := "http://" + address + "/live/?channel=a&channel=b"
	_, token, _ := strings.Cut(tokenOf(t, "ann"), ": ")
	ann := header("Authorization", token)
	other := subscribe(t, url)
	snapshots := func(s *caddyStream, want ...string) {
		t.Helper()
		for _, channel := range want {
			for {
				e, err := s.events.Next()
				if err != nil {
					t.Fatalf("no snapshot of %s: %v", channel, err)
				}
				if e.Type == "evstream.presence" {
					if !strings.Contains(string(e.Data), `"channel":"`+channel+`","members":[{"user":"ann"`) || !strings.Contains(string(e.Data), `"anonymous":1`) {
						t.Errorf("the snapshot of %s is %s", channel, e.Data)
					}
					break
				}
			}
		}
	}
	watching := connect(t, url+"&presence=1", ann)
	snapshots(watching, "a")
	if err := reload(t, config("a", "b")); err != nil {
		t.Fatal(err)
	}
	watching.ended()
	watching = connect(t, url+"&presence=1", ann)
	snapshots(watching, "a", "b")
	// What does not concern it does not end it.
	if err := reload(t, config("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, "http://"+address+"/live/a", "on")
	watching.expect("on")
	if err := reload(t, config("c")); err != nil {
		t.Fatal(err)
	}
	watching.ended()
	if again := connect(t, url+"&presence=1", ann); again.status != 400 {
		t.Errorf("without presence it is answered %d", again.status)
	}
	mustPublish(t, "http://"+address+"/live/a", "over")
	other.expect("on")
	other.expect("over")
}
