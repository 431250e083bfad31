package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// axe examines a page as it is shown now, with axe-core. Nothing may be wrong with it.
type axe struct {
	*device
	t      *testing.T
	script string
}

// openAxe opens a page in a Chromium that prefers light (1) or dark (0) colours.
func openAxe(t *testing.T, scheme, url string) *axe {
	t.Helper()
	script, err := os.ReadFile(made(t, "clients/node_modules/axe-core/axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	preferred := map[string]string{"dark": "0", "light": "1"}[scheme]
	chromium := openChromium(t, chromedp.Flag("blink-settings", "preferredColorScheme="+preferred), chromedp.Flag("force-prefers-reduced-motion", true))
	a := &axe{newDevice(t, chromium, url), t, string(script)}
	if !eval[bool](t, a.device, fmt.Sprintf("matchMedia('(prefers-color-scheme: %s)').matches", scheme)) {
		t.Fatalf("Chromium does not prefer %s colours", scheme)
	}
	return a
}

func (a *axe) do(script string) {
	a.t.Helper()
	await[bool](a.t, a.device, "(async () => { "+script+"; return true; })()")
}

func (a *axe) is(what, expression string) {
	a.t.Helper()
	eventually(a.t, what, func() bool { return eval[bool](a.t, a.device, "Boolean("+expression+")") })
}

// examine looks at a page on a large screen and on a phone. What axe cannot decide is wrong,
// too, except contrast, where there is a gradient, and the name of a button that is a sign.
func (a *axe) examine(what string) {
	a.t.Helper()
	for _, size := range []struct{ width, height int64 }{{1280, 800}, {390, 844}} {
		do(a.t, a.device, chromedp.EmulateViewport(size.width, size.height))
		if !eval[bool](a.t, a.device, "typeof axe === 'object'") {
			eval[bool](a.t, a.device, a.script+"; true")
		}
		found := await[[]string](a.t, a.device, `axe.run().then(({ violations, incomplete }) => [...violations,
			...incomplete.filter(({ id }) => id !== 'color-contrast' && id !== 'label-content-name-mismatch')].flatMap(({ id, help, nodes }) =>
			nodes.map(n => id + ': ' + help + ': ' + n.target + ': ' + n.html.slice(0, 200) + ': ' + n.failureSummary)))`)
		for _, f := range found {
			a.t.Errorf("%s at %d px: %s", what, size.width, f)
		}
	}
}

func eachScheme(t *testing.T, f func(t *testing.T, scheme string)) {
	t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) { f(t, scheme) })
	}
}

func TestAxeFindsNothingInTheConsole(t *testing.T) {
	site := free(t)
	runCaddy(t, fmt.Sprintf(`{
	admin off
	persist_config off
	evstream {
		channel rooms/* {
			presence
		}
	}
}
http://%s {
	evstream /live/* {
		console
		bearer operator a-secret-of-an-operator
		allow operator console,all **
	}
}
`, site), site)
	send := func(method, path, body string) {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+site+"/live/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer a-secret-of-an-operator")
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode/100 != 2 {
			t.Fatal(err, resp)
		}
	}
	for i := range 30 {
		send("POST", fmt.Sprintf("scores/match.%d?event=goal", i), `{"home":1,"away":0}`)
	}
	send("PUT", "scores/match.7", `{"home":7,"away":1,"minute":80}`)
	send("POST", "over?close", "the end")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+site+"/live/rooms/lounge", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer a-secret-of-an-operator")
	member, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer member.Body.Close()

	eachScheme(t, func(t *testing.T, scheme string) {
		a := openAxe(t, scheme, "http://"+site+"/live/_console")
		view := func(name string) {
			t.Helper()
			a.do(fmt.Sprintf("location.hash = %q", name))
			a.is("the view "+name, fmt.Sprintf("!document.getElementById(%q).hidden", name))
		}
		submit := func(form, fields, done string) {
			t.Helper()
			a.do(fmt.Sprintf(`
				const form = document.getElementById(%q);
				for (const [name, value] of Object.entries(%s)) {
					form.elements[name].value = value;
					form.elements[name].dispatchEvent(new Event('input', { bubbles: true }));
				}
				form.requestSubmit(form.querySelector('button[type=submit]'))`, form, fields))
			a.is(form+" to be answered", done)
		}
		a.is("no access", `document.getElementById("notice").textContent.includes("Credential")`)
		a.examine("the console without a credential")
		a.do("askForCredential()")
		a.examine("the question for a credential")
		a.do(`sessionStorage.setItem("evstream.token", "a-secret-of-an-operator")`)
		do(t, a.device, chromedp.Reload())
		a.is("access", `document.readyState === "complete" && document.getElementById("state").textContent.includes("Live") && document.getElementById("facts").textContent.includes("memory, up")`)
		a.examine("the overview")

		view("channels")
		a.is("the channels", `document.querySelectorAll("#channels-table tr").length > 30`)
		a.examine("the channels")
		view("sessions")
		a.is("the sessions", `document.querySelector("#sessions-table button")`)
		a.examine("the sessions")
		a.do(`document.querySelector("#sessions-table button").click()`)
		a.is("the question", `document.getElementById("ask-dialog").open`)
		a.examine("the question whether to end a session")
		a.do(`document.querySelector("#ask-dialog button[value=no]").click()`)
		view("presence")
		submit("presence-form", `{ channel: "rooms/lounge" }`, `document.getElementById("presence-sum").textContent.includes("present")`)
		a.examine("presence")
		view("tail")
		submit("tail-form", `{ channel: "scores/*", last: "5", filter: "" }`, `document.querySelectorAll("#tail-list li").length > 4`)
		a.examine("the tail")
		a.do(`document.getElementById("tail-pause").click()`)
		a.examine("the tail on hold")
		view("publish")
		submit("publish-form", `{ channel: "scores/match.7", event: "goal", data: "{}" }`, `document.getElementById("publish-sum").textContent.includes("Published as")`)
		a.examine("publishing")
		submit("publish-form", `{ channel: "_no", event: "goal", data: "{}" }`, `document.getElementById("publish-sum").textContent.includes("belong to the hub")`)
		a.examine("a refusal")
		view("value")
		submit("value-form", `{ channel: "scores/match.7" }`, `document.querySelector("#value-edit textarea").value.includes('"minute": 80')`)
		a.do(`
			const area = document.querySelector("#value-edit textarea");
			area.value = area.value.replace("80", "81");
			area.dispatchEvent(new Event("input"))`)
		a.is("what would change", `document.querySelector("#value-diff ins")`)
		a.examine("the value")
		view("rules")
		submit("rules-form", `{ do: "publish", channel: "scores/x", user: "alice" }`, `document.getElementById("rules-sum").textContent.includes("Not allowed")`)
		a.examine("the rules")
	})
}

// TestAxeFindsNothingInTheExample examines the scoreboard while matches are played.
func TestAxeFindsNothingInTheExample(t *testing.T) {
	text, err := os.ReadFile("../examples/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	www, site, admin := made(t, "../examples/www"), free(t), free(t)
	config := strings.NewReplacer(
		"http://localhost:8080", "http://"+site,
		"root * examples/www", "root * "+www,
		"\n\tscoreboard\n", fmt.Sprintf("\n\tscoreboard {\n\t\tadmin %s\n\t}\n\tadmin %s\n\tpersist_config off\n", admin, admin),
	).Replace(string(text))
	runCaddy(t, config, site)
	eachScheme(t, func(t *testing.T, scheme string) {
		a := openAxe(t, scheme, "http://"+site)
		a.is("matches", `document.querySelectorAll("#board .card:not(.blank), #board article").length >= 5 && document.querySelector("#feed li")`)
		a.examine("the scoreboard")
		a.do(`document.getElementById("goal").click()`)
		a.is("an answer", `document.getElementById("answer").dataset.kind !== "none"`)
		a.examine("the scoreboard after a goal")
		a.do(`document.getElementById("publish-button").click()`)
		a.is("news", `!document.getElementById("news-close").hidden`)
		a.examine("the scoreboard with news")
		a.do(`document.getElementById("cut-seconds").value = "60"; document.getElementById("cut-button").click()`)
		a.is("a cut", `document.getElementById("strip").dataset.state !== "live"`)
		a.examine("the scoreboard while it is cut")
	})
}
