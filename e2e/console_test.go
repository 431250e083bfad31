package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// EVSTREAM_SHOTS names a directory that gets screenshots of the console.
var shots = os.Getenv("EVSTREAM_SHOTS")

const consoleSite = `
	evstream /live/* {
		console
		bearer operator a-secret-of-an-operator
		allow operator console,all **
		allow anyone subscribe scores/**
	}
`

// TestConsole uses each view of the console as an operator does.
func TestConsole(t *testing.T) {
	t.Parallel()
	s := start(t, config("evstream {\n\tchannel rooms/* {\n\t\tpresence\n\t}\n}", consoleSite))
	send := func(method, path, body string) {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+s.plain+"/live/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer a-secret-of-an-operator")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode > 204 {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	for i := range 30 {
		send("POST", fmt.Sprintf("scores/match.%d?event=goal", i), fmt.Sprintf(`{"home":%d,"away":1}`, i))
	}
	send("PUT", "scores/match.7", `{"home":7,"away":1,"minute":80}`)

	p := newPage(t, "http://"+s.plain+"/live/_console")
	is := func(what, expression string) {
		t.Helper()
		eventually(t, what, func() bool { return eval[bool](t, p, "Boolean("+expression+")") })
	}
	text := func(id, part string) {
		t.Helper()
		is(id+" to say "+part, fmt.Sprintf("document.getElementById(%q)?.textContent.includes(%q)", id, part))
	}
	view := func(name string) {
		t.Helper()
		eval[bool](t, p, fmt.Sprintf("(location.hash = %q, true)", name))
		is("the view "+name, fmt.Sprintf("document.getElementById(%q)?.hidden === false", name))
	}
	submit := func(form, fields string) {
		t.Helper()
		eval[bool](t, p, fmt.Sprintf(`(() => {
			const form = document.getElementById(%q);
			for (const [name, value] of Object.entries(%s)) {
				form.elements[name].value = value;
				form.elements[name].dispatchEvent(new Event("input", {bubbles: true}));
			}
			form.requestSubmit(form.querySelector("button[type=submit]"));
			return true;
		})()`, form, fields))
	}

	// Without a credential it says that one is needed, and shows nothing.
	text("notice", "Credential")
	is("no numbers", `!document.querySelector("#cards dd")?.textContent.match(/\d/)`)
	eval[bool](t, p, `(sessionStorage.setItem("evstream.token", "a-secret-of-an-operator"), true)`)
	do(t, p, chromedp.Reload())
	text("state", "Live")
	text("facts", "memory, up")

	feed := newPage(t, "http://"+s.plain+"/page").follow(t, "/live/scores/match.7", "goal")
	eventually(t, "the stream to be open", func() bool { return len(feed.feed(t).Openings) == 1 })
	text("cards", "Streams1")

	view("channels")
	is("all channels", `document.querySelectorAll("#channels-table tr").length === 31`)
	submit("channels-form", `{prefix: "scores/match.7"}`)
	is("one channel", `document.querySelectorAll("#channels-table tr").length === 2 && document.querySelector("#channels-table").textContent.includes("has a value")`)

	view("tail")
	submit("tail-form", `{channel: "scores/*", last: "3", filter: ""}`)
	is("the replay and the value in the tail", `document.querySelectorAll("#tail-list li").length === 4`)
	view("publish")
	submit("publish-form", `{channel: "scores/match.7", event: "goal", data: "{\"home\":8}"}`)
	text("publish-sum", "Published as")
	view("tail")
	is("what was published in the tail", `document.querySelector("#tail-list li")?.textContent.includes('{"home":8}')`)

	view("value")
	submit("value-form", `{channel: "scores/match.7"}`)
	is("the value", `document.querySelector("#value-edit textarea").value.includes('"minute": 80')`)
	eval[bool](t, p, `(() => {
		const area = document.querySelector("#value-edit textarea");
		area.value = area.value.replace("80", "81");
		return area.dispatchEvent(new Event("input"));
	})()`)
	is("what would change", `document.querySelector("#value-diff ins")?.textContent.includes("81") && document.querySelector("#value-diff del")?.textContent.includes("80")`)
	submit("value-edit", `{}`)
	text("value-sum", "Saved as version")

	view("rules")
	submit("rules-form", `{do: "publish", channel: "scores/x", user: "alice"}`)
	text("rules-sum", "Not allowed")
	submit("rules-form", `{do: "subscribe", channel: "scores/x", user: "alice"}`)
	text("rules-sum", "Allowed by allow anyone subscribe scores/**")
	text("rules-text", "is not about this caller")

	view("presence")
	submit("presence-form", `{channel: "rooms/lounge"}`)
	text("presence-sum", "0 present")

	view("sessions")
	is("the sessions", `document.querySelectorAll("#sessions-table tr").length >= 2`)
	submit("sessions-form", `{user: "", channel: "scores/match.7"}`)
	is("the sessions of the channel, of which the tail is one", `document.querySelectorAll("#sessions-table tr").length === 3`)
	eval[bool](t, p, `([...document.querySelectorAll("#sessions-table tr")].find((row) => row.textContent.includes("scores/match.7")).querySelector("button").click(), true)`)
	is("the question", `document.getElementById("ask-dialog").open`)
	eval[bool](t, p, `(document.getElementById("ask-yes").click(), true)`)
	eventually(t, "the stream to have ended for good", func() bool { return feed.feed(t).State == 2 })

	t.Run("on any screen", func(t *testing.T) {
		for _, size := range []struct{ width, height int64 }{{1280, 800}, {390, 844}} {
			for _, scheme := range []string{"light", "dark"} {
				do(t, p, chromedp.EmulateViewport(size.width, size.height))
				eval[bool](t, p, fmt.Sprintf("(theme.set(%q), true)", scheme))
				for _, name := range []string{"overview", "channels", "sessions", "presence", "tail", "publish", "value", "rules"} {
					view(name)
					if over := eval[int](t, p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
						t.Errorf("%s at %d pixels is %d too wide", name, size.width, over)
					}
					if shots != "" {
						picture := do(t, p, chromedp.CaptureScreenshot())
						if err := os.WriteFile(filepath.Join(shots, fmt.Sprintf("%s-%d-%s.png", name, size.width, scheme)), picture, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
	})
}
