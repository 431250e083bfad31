package evstream

import (
	"strings"
	"testing"
)

func TestExitSaysWhatItWaitsFor(t *testing.T) {
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "", allowAnything+"\n\t\tdrain 200ms")
	})
	s := subscribe(t, "http://"+address+"/live/a")
	p.stop()
	s.ended()
	log := p.log.String()
	if !strings.Contains(log, "the exit waits for open streams to end") || !strings.Contains(log, `"streams":1`) || !strings.Contains(log, "a second ^C does not wait") {
		t.Errorf("logged is\n%s", log)
	}
}
