package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAPageJoinsAndLeavesOverOneEventSource runs the script of docs/sessions.md in a
// browser: a page opens and closes rooms, is cut, and gets each event once.
func TestAPageJoinsAndLeavesOverOneEventSource(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		allow anyone subscribe,publish **
		retry 300ms 400ms
	}
`))
	pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	post := func(channel, data string) {
		t.Helper()
		if err := pub.post(channel, data); err != nil {
			t.Fatal(err)
		}
	}
	p := newPage(t, "http://"+s.plain+"/page")
	eval[bool](t, p, fmt.Sprintf(`(() => {
		window.got = []; window.sessions = []; window.reads = [];
		const Native = EventSource;
		window.EventSource = function(url) {
			const source = window.source = new Native(url);
			const read = (e) => window.reads = JSON.parse(e.data).channels;
			for (const type of ["evstream.open", "evstream.joined", "evstream.left"]) source.addEventListener(type, read);
			source.addEventListener("evstream.open", (e) => sessions.push(JSON.parse(e.data).session));
			return source;
		};
		%s
		window.page = reader((e) => got.push(e.data));
		return true;
	})()`, documented(t, "docs/sessions.md", snippets["docs/sessions.md"][0])))
	reads := func(want string) {
		t.Helper()
		eventually(t, "the page to read "+want, func() bool { return eval[string](t, p, "reads.join(' ')") == want })
	}
	got := func(want string) {
		t.Helper()
		eventually(t, "the page to get "+want, func() bool { return eval[string](t, p, "got.join(' ')") == want })
	}
	do := func(script string) { eval[bool](t, p, "(() => { "+script+"; return true })()") }
	cut := func() {
		t.Helper()
		body := fmt.Sprintf(`{"session":%q}`, eval[string](t, p, "sessions.at(-1)"))
		resp, err := http.Post("http://"+s.admin+"/evstream/_revocations", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}

	reads("lobby")
	post("rooms/1", "before")
	do(`page.open("rooms/1")`)
	reads("lobby rooms/1")
	post("rooms/1", "a")
	post("lobby", "b")
	got("a b")
	do(`page.open("rooms/2")`)
	reads("lobby rooms/1 rooms/2")
	post("rooms/2", "c")
	do(`page.close("rooms/1")`)
	reads("lobby rooms/2")
	post("rooms/1", "not for it")
	post("rooms/2", "d")
	got("a b c d")

	// The stream is cut; what comes meanwhile comes once, from the room, too.
	cut()
	eventually(t, "the stream to be cut", func() bool { return eval[int](t, p, "source.readyState") == 0 })
	post("rooms/2", "e")
	post("lobby", "f")
	eventually(t, "the page to come back", func() bool { return eval[int](t, p, "sessions.length") == 2 })
	reads("lobby rooms/2")
	post("rooms/2", "g")
	eventually(t, "all to come", func() bool { return eval[int](t, p, "got.length") == 7 })
	if all := eval[string](t, p, "got.join(' ')"); all != "a b c d f e g" && all != "a b c d e f g" {
		t.Errorf("the page got %s", all)
	}
}
