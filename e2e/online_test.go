package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestWhoIsOnline runs the script of docs/state.md: a user is there as long as one of
// her tabs is.
func TestWhoIsOnline(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/state.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(string(text), "```js\nfunction online(")
	script, _, closed := strings.Cut(script, "```")
	if !ok || !closed {
		t.Fatal("docs/state.md has no script that says who is online")
	}
	s := start(t, config("", stateSite))
	enter := func(name string) *page {
		p := newPage(t, "http://"+s.plain+"/page")
		eval[bool](t, p, fmt.Sprintf(`(() => {
			window.people = [];
			window.source = (function online(%s)("room", %q, (list) => window.people = list);
			return true;
		})()`, script, name))
		return p
	}
	sees := func(p *page, names ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("the page to see %v", names), func() bool { return slices.Equal(eval[[]string](t, p, "people"), names) })
	}
	leave := func(p *page) { eval[bool](t, p, "(() => { source.close(); return true })()") }

	ada, bob, again := enter("ada"), enter("bob"), enter("ada")
	sees(bob, "ada", "bob")
	sees(again, "ada", "bob")
	eventually(t, "both tabs to be bound", func() bool { return s.metric(`evstream_connections{broker="default"}`) == 3 })
	leave(ada)
	eventually(t, "the tab to leave", func() bool { return s.metric(`evstream_connections{broker="default"}`) == 2 })
	carol := enter("carol")
	sees(bob, "ada", "bob", "carol")
	sees(carol, "ada", "bob", "carol")
	leave(again)
	sees(bob, "bob", "carol")
	sees(carol, "bob", "carol")
}
