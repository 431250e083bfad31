package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// snippets are the scripts of the documents that a page can copy: by the document,
// how each begins. TestEverySnippetIsTried sees to it that the tests below, or those
// named, run each of them as it stands.
var snippets = map[string][]string{
	"README.md":        {"const live = new EventSource("},
	"docs/access.md":   {"const chat = new EventSource("},
	"docs/browser.md":  {"const { connect } = await import("},                         // TestAPageConnectsAsTheDocumentSays
	"docs/presence.md": {"function present("},                                         // TestTabsOfAUserAreOneMember
	"docs/sessions.md": {"function reader("},                                          // TestAPageJoinsAndLeavesOverOneEventSource
	"docs/state.md":    {"const users = new EventSource(", "function online("},        // the last: TestWhoIsOnline
	"docs/tokens.md":   {"const {ticket} = await answer.json();", "function follow("}, // the last: TestATicketIsRenewed…
}

func TestEverySnippetIsTried(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		name := strings.TrimPrefix(page, "../")
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "```js\n"); n != len(snippets[name]) {
			t.Errorf("%s has %d scripts, of which %d are tried", name, n, len(snippets[name]))
		}
		for _, begin := range snippets[name] {
			documented(t, name, begin)
		}
	}
}

func TestTheSnippetsWork(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		allow anyone subscribe,publish,state **
		jwt {
			key "`+jwtKey+`"
		}
		tickets
	}
`))
	pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	post := func(t *testing.T, channel, data string) {
		t.Helper()
		if err := pub.post(channel, data); err != nil {
			t.Fatal(err)
		}
	}
	// run runs a script, in which told(…) collects what it tells.
	run := func(t *testing.T, p *page, before, script string) {
		t.Helper()
		before = "window.tell = []; const told = (x) => tell.push(JSON.stringify(x));" + before
		await[bool](t, p, fmt.Sprintf("(async () => { %s\n%s\nwindow.source = %s; return true })()", before, script, strings.Fields(script)[1]))
		eventually(t, "the stream to open", func() bool { return eval[int](t, p, "source.readyState") == 1 })
	}
	tells := func(t *testing.T, p *page, want string) {
		t.Helper()
		eventually(t, "the script to tell "+want, func() bool {
			return eval[string](t, p, "tell.join(' ')") == want
		})
	}

	t.Run("README.md", func(t *testing.T) {
		p := newPage(t, "http://"+s.plain+"/page")
		run(t, p, "const console = {log: told};", documented(t, "README.md", snippets["README.md"][0]))
		post(t, "match.7?event=score", `{"home":2}`)
		post(t, "football/a/b", "kick-off")
		tells(t, p, `{"home":2} "kick-off"`)
	})
	t.Run("docs/access.md", func(t *testing.T) {
		p := newPage(t, "http://"+s.plain+"/page")
		post(t, "chats/alice/42?event=token", `{"t":"Hel"}`)
		run(t, p, `document.body.innerHTML = "<p id=answer></p>";`, documented(t, "docs/access.md", snippets["docs/access.md"][0]))
		post(t, "chats/alice/42?event=token", `{"t":"lo"}`)
		eventually(t, "the answer", func() bool { return eval[string](t, p, "answer.textContent") == "Hello" })
		post(t, "chats/alice/42?event=done", `{}`)
		eventually(t, "the stream to close", func() bool { return eval[int](t, p, "source.readyState") == closedFor })
	})
	t.Run("docs/state.md", func(t *testing.T) {
		p := newPage(t, "http://"+s.plain+"/page")
		put := func(value string) {
			await[bool](t, p, fmt.Sprintf(`fetch("/live/user-count", {method: "PUT", body: %q}).then((r) => r.ok)`, value))
		}
		put("41")
		run(t, p, "const show = told;", documented(t, "docs/state.md", snippets["docs/state.md"][0]))
		tells(t, p, "41")
		put("42")
		tells(t, p, "41 42")
	})
	t.Run("docs/tokens.md", func(t *testing.T) {
		p := newPage(t, "http://"+s.plain+"/page")
		token := tokenOf(t, "alice", time.Now().Add(time.Hour))
		answer := fmt.Sprintf(`const answer = await fetch("/live/_tickets", {method: "POST", headers: {Authorization: "Bearer %s"}});`, token)
		script := documented(t, "docs/tokens.md", snippets["docs/tokens.md"][0])
		first, second, _ := strings.Cut(script, "\n")
		run(t, p, answer+first, second)
	})
}

// documented is the script of a document that begins like that.
func documented(t testing.TB, page, begin string) string {
	t.Helper()
	text, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "```js\n"+begin)
	script, _, closed := strings.Cut(after, "```")
	if !ok || !closed {
		t.Fatalf("%s has no script %q", page, begin)
	}
	return begin + script
}
