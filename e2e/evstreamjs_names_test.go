package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// TestTheHelperRefusesNamesThatWouldBeAnotherPath has a page read what others have chosen.
func TestTheHelperRefusesNamesThatWouldBeAnotherPath(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	p := connectPage(t, "http://"+s.plain+"/page", "{share: false}")
	p.do(`window.asked = [];
		const { fetch } = window;
		window.fetch = (url, options) => { asked.push(new URL(url).pathname); return fetch(url, options); };
		live.on('a', event)`)
	p.opens()
	for _, name := range []string{"..", "../x", "a/..", "a/../b", "a/../../../../page", ".", "./a", "a/./b", "%2e%2e/x", "a/.%2E/b", ".\t./x", `a\b`, "a?b", "?a", "a#b", "a b", "é"} {
		for _, how := range []string{"on", "value", "presence"} {
			told := eval[string](t, p.page, fmt.Sprintf(`(() => { try { live[%q](%q, event); return ''; } catch (e) { return String(e); } })()`, how, name))
			if want := "TypeError: no channel " + name; told != want {
				t.Errorf("live.%s(%q): %q, want %q", how, name, told, want)
			}
		}
	}
	// What is like them, and is a name.
	p.do("for (const name of ['rooms/a..b', 'rooms/...', \"rooms/-._~:@!$'()=+&\"]) live.on(name, event)")
	want := []string{"/rooms/a..b", "/rooms/...", "/rooms/-._~:@!$'()=+&"}
	var asked []string
	eventually(t, "three channels to join", func() bool {
		asked = eval[[]string](t, p.page, "asked.map((path) => path.replace(/.*channels/, ''))")
		return len(asked) >= len(want)
	})
	if !slices.Equal(asked, want) {
		t.Errorf("the page asked for %q, want %q", asked, want)
	}
	for _, path := range []string{"rooms/a..b", "rooms/...", "rooms/-._~:@!$'()=+&"} {
		eventually(t, "an event of "+path, func() bool {
			write(t, "POST", "http://"+s.plain+"/live/"+path, "", path)
			return eval[bool](t, p.page, fmt.Sprintf("got.includes(%q)", path))
		})
	}
}
