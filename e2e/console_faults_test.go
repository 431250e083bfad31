package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestConsoleTakesWhatOthersWrite has others choose what the console shows, and gives its
// views what they cannot use.
func TestConsoleTakesWhatOthersWrite(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		console
		bearer operator a-secret-of-an-operator
		bearer looker a-secret-of-a-looker
		allow operator console,all **
		allow looker console **
	}
	respond /outside {header.Authorization}
`))
	send := func(method, path, body string) string {
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
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode > 204 {
			t.Fatalf("%s %s: %s, %s, %v", method, path, resp.Status, answer, err)
		}
		return string(answer)
	}
	const big = `{"n":1,"id":9223372036854775807,"x":1.0}`
	send("PUT", "numbers", big)

	p := newPage(t, "http://"+s.plain+"/live/_console")
	is := func(what, expression string) {
		t.Helper()
		eventually(t, what, func() bool { return eval[bool](t, p, "Boolean("+expression+")") })
	}
	says := func(id, part string) {
		t.Helper()
		is(id+" to say "+part, fmt.Sprintf("document.getElementById(%q)?.textContent.includes(%q)", id, part))
	}
	as := func(secret, view string) {
		t.Helper()
		eval[bool](t, p, fmt.Sprintf(`(location.hash = %q, sessionStorage.setItem("evstream.token", %q), true)`, view, secret))
		do(t, p, chromedp.Reload())
		says("state", "Live")
	}
	read := func(channel string) {
		t.Helper()
		eval[bool](t, p, fmt.Sprintf(`(document.getElementById("value-form").channel.value = %q, document.getElementById("value-form").requestSubmit(), true)`, channel))
	}
	edit := func(js string) {
		t.Helper()
		eval[bool](t, p, `(() => { const area = document.querySelector("#value-edit textarea"); `+js+`; return area.dispatchEvent(new Event("input")); })()`)
	}

	// A view that there is not is the overview, also one that every object has.
	as("a-secret-of-an-operator", "constructor")
	is("the overview", `!document.getElementById("overview").hidden`)

	// All digits of a number stay, also where only the last is changed.
	as("a-secret-of-an-operator", "value")
	read("numbers")
	is("all digits", `document.querySelector("#value-edit textarea").value === '{\n  "n": 1,\n  "id": 9223372036854775807,\n  "x": 1.0\n}'`)
	edit(`area.value = area.value.replace("5807", "5806")`)
	is("a change of the last digit", `!document.getElementById("value-save").disabled && document.querySelector("#value-diff ins").textContent.includes("5806")`)
	eval[bool](t, p, `(document.getElementById("value-edit").requestSubmit(), true)`)
	says("value-sum", "Saved as version")
	r, err := http.NewRequest("GET", "http://"+s.plain+"/live/numbers", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer a-secret-of-an-operator")
	r.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(got), "9223372036854775806") {
		t.Errorf("the value is %s, %v", got, err)
	}

	// What is no channel is not asked for, and nothing of another one is left to save.
	for channel, why := range map[string]string{"../outside": "“..”", "_x": "begin with _", "x y": "not a channel name"} {
		read("numbers")
		says("value-sum", "Version")
		read(channel)
		says("value-sum", why)
		is("nothing to save", `document.querySelector("#value-edit textarea").disabled && document.querySelector("#value-edit textarea").value === ""`)
	}

	// An event without an envelope, and with an id that is no time, is shown.
	eval[bool](t, p, `(location.hash = "tail", document.getElementById("tail-form").requestSubmit(), true)`)
	is("the tail", `document.getElementById("tail-count").textContent.includes("a second")`)
	list := send("GET", "_sessions?channel=**", "")
	_, id, _ := strings.Cut(list, `"session":"`)
	id, _, _ = strings.Cut(id, `"`)
	send("POST", "_sessions/"+id, "null")
	send("POST", "a?id=9999999999999999", "far away")
	send("POST", "a", "<img src=x onerror=document.title=1>")
	is("the events", `["null", "far away", "<img src=x onerror=document.title=1>"].every((text) => [...document.querySelectorAll("#tail-list .data")].some((e) => e.textContent === text))`)
	// What came last is shown, though the stream has ended by then.
	eval[bool](t, p, `(tail.take(["data: the last"]), tail.end("Over."), true)`)
	is("the last event", `document.getElementById("tail-list").textContent.includes("the last") && document.getElementById("tail-sum").textContent === "Over."`)

	// A credential that no header can have is not taken for a server that does not answer.
	eval[bool](t, p, `(sessionStorage.setItem("evstream.token", "“a-secret-of-an-operator”"), true)`)
	do(t, p, chromedp.Reload())
	says("notice", "has a character that none has")

	// A view that is refused says so, and goes on saying so.
	as("a-secret-of-a-looker", "sessions")
	says("sessions-sum", "no permission")
}
