package evstream

import (
	"net/http"
	"strings"
	"testing"
)

// An application is told of members, each once however many tabs it has, over a reload
// and with what the reload changes.
func TestApplicationsAreToldOfMembers(t *testing.T) {
	app, address := newReceiver(t), freeAddress(t)
	config := func(channel string) string {
		return site(address, "\tevstream {\n\t\ton member_joined member_left "+app.URL+"/hooks\n\t\tchannel "+channel+" {\n\t\t\tpresence\n\t\t\tpresence_grace 1ms\n\t\t}\n\t}\n",
			tokenBlock+"\t\tallow anyone subscribe **\n\t\tallow user all **")
	}
	load(t, config("a"))
	tab := func(channel string, who ...func(*http.Request)) *caddyStream {
		t.Helper()
		return subscribe(t, "http://"+address+"/live/"+channel, who...)
	}
	_, token, _ := strings.Cut(tokenOf(t, "ann"), ": ")
	ann := header("Authorization", token)
	first, second := tab("a", ann), tab("a", ann)
	nobody := tab("a") // is no member
	eventually(t, "ann to have joined", func() bool { return app.has("evstream.member_joined a []") })
	first.cancel()
	nobody.cancel()
	// She is in b when b has presence, and is still in a.
	tab("b", ann)
	if err := reload(t, config("*")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ann to have joined b", func() bool { return app.has("evstream.member_joined b []") })
	second.cancel()
	eventually(t, "ann to have left a", func() bool { return app.has("evstream.member_left a []") })
	// With nothing that has presence nobody is a member.
	if err := reload(t, config("c")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ann to have left b", func() bool { return app.has("evstream.member_left b []") })
	app.mu.Lock()
	defer app.mu.Unlock()
	if len(app.got) != 4 {
		t.Errorf("it was told %q", app.got)
	}
}
