package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestConsoleShowsWhatCanBeRead publishes far more than anybody can read, and has the tail
// show the newest of it, in rows that it uses again, and say how much it leaves out.
func TestConsoleShowsWhatCanBeRead(t *testing.T) {
	t.Parallel()
	s := start(t, config("", consoleSite))
	p := newPage(t, "http://"+s.plain+"/live/_console#tail")
	is := func(what, expression string) {
		t.Helper()
		eventually(t, what, func() bool { return eval[bool](t, p, "Boolean("+expression+")") })
	}
	eval[bool](t, p, `(sessionStorage.setItem("evstream.token", "a-secret-of-an-operator"), true)`)
	do(t, p, chromedp.Reload())
	is("the page", `window.parse && document.getElementById("state").textContent.includes("Live")`)
	eval[bool](t, p, `(() => {
		const read = window.parse, rows = window.rows = new Set();
		window.read = 0;
		window.parse = (text) => { if (!text.includes("evstream.")) window.read++; return read(text); };
		new MutationObserver((list) => { for (const change of list) for (const row of change.addedNodes) rows.add(row); })
			.observe(document.getElementById("tail-list"), { childList: true });
		document.getElementById("tail-form").requestSubmit();
		return true;
	})()`)
	is("the tail", `document.getElementById("tail-sum").textContent === "Following"`)

	const events = 3000
	var body strings.Builder
	for i := range events {
		fmt.Fprintf(&body, "{\"channel\":\"scores/a\",\"data\":\"number %d.\"}\n", i)
	}
	r, err := http.NewRequest("POST", "http://"+s.plain+"/live/_publish", strings.NewReader(body.String()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer a-secret-of-an-operator")
	r.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("publishing is answered %s", resp.Status)
	}
	is("the last event", fmt.Sprintf(`document.querySelector("#tail-list .data")?.textContent === "number %d."`, events-1))
	is("what it leaves out", `/3,000 events; .*[0-9] not shown/.test(document.getElementById("tail-count").textContent)`)
	type counts struct{ Total, Skipped, Read, Rows int }
	n := eval[counts](t, p, `({Total: tail.total, Skipped: tail.skipped, Read: window.read, Rows: window.rows.size})`)
	if n.Total != events || n.Read+n.Skipped != events || n.Skipped == 0 {
		t.Errorf("of %d events %d have come, %d were read and %d left out", events, n.Total, n.Read, n.Skipped)
	}
	if n.Rows > 200 {
		t.Errorf("it has made %d rows", n.Rows)
	}

	// A gap is told, whatever comes after it, and the end of the stream is the hub's alone.
	eval[bool](t, p, `(tail.take(["id: 1-1\nevent: evstream.gap\ndata: {\"reason\":\"slow\"}", ...Array(100).fill("event: end\ndata: of a user")]), true)`)
	is("the gap", `[...document.querySelectorAll("#tail-list .note")].some((e) => e.textContent.includes("A gap: events are lost"))`)
	is("an event that is called end", `document.querySelector("#tail-list .data").textContent === "of a user"`)
	is("no end", `!document.getElementById("tail-list").textContent.includes("The end")`)

	// What is held is kept as it is; what comes meanwhile is shown after that.
	eval[bool](t, p, `(tail.hold(), tail.take(["data: meanwhile"]), true)`)
	is("that it is held", `document.getElementById("tail-count").textContent.includes("held") && !tail.drawing`)
	if eval[bool](t, p, `document.getElementById("tail-list").textContent.includes("meanwhile")`) {
		t.Error("an event is shown while the tail is held")
	}
	eval[bool](t, p, `(tail.hold(), true)`)
	is("what came meanwhile", `document.querySelector("#tail-list .data").textContent === "meanwhile"`)
}
