package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestTabsOfAUserAreOneMember runs the script of docs/presence.md: who has five tabs is one
// member until the last of them is closed. Over the bound only the number is told.
func TestTabsOfAUserAreOneMember(t *testing.T) {
	t.Parallel()
	members := func(most int) string {
		return fmt.Sprintf("\tevstream {\n\t\tchannel chat/* {\n\t\t\tpresence\n\t\t\tpresence_grace 500ms\n\t\t\tpresence_members %d\n\t\t}\n\t}\n", most)
	}
	// The name of the cookie is no other test's: browsers send it to every port.
	site := `
	evstream /live/* {
		jwt {
			key "` + jwtKey + `"
		}
		cookie present
		allow user subscribe,presence chat/*
		retry 300ms 400ms
	}
`
	s := start(t, config(members(10), site))
	enter := func(user string) *page {
		p := newPage(t, "https://"+s.tls+"/page")
		eval[bool](t, p, fmt.Sprintf(`(() => {
			document.cookie = "present=%s; path=/live";
			window.members = []; window.most = window.count = 0;
			%s
			window.source = present("chat/1", (list, n) => {
				members = list.map((m) => m.user).sort(); count = n; most = Math.max(most, n);
			});
			return true;
		})()`, tokenOf(t, user, time.Now().Add(time.Hour)), documented(t, "docs/presence.md", snippets["docs/presence.md"][0])))
		eventually(t, user+" to be there", func() bool { return slices.Contains(eval[[]string](t, p, "members"), user) })
		return p
	}
	sees := func(p *page, count int, names ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("the page to see %v", names), func() bool {
			return eval[int](t, p, "count") == count && slices.Equal(eval[[]string](t, p, "members"), names)
		})
	}
	streams := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d streams", n), func() bool { return s.metric(`evstream_connections{broker="default"}`) == n })
	}

	bob := enter("bob")
	var tabs []*page
	for range 5 {
		tabs = append(tabs, enter("ada"))
	}
	sees(bob, 2, "ada", "bob")
	sees(tabs[4], 2, "ada", "bob")
	for _, tab := range tabs[:4] {
		if err := chromedp.Cancel(tab.ctx); err != nil { // closes it
			t.Fatal(err)
		}
	}
	streams(2)
	if got := get(t, "http://"+s.admin+"/evstream/_presence/chat/1"); !strings.Contains(got, `"count":2`) || strings.Count(got, `"sessions":1,`) != 2 {
		t.Errorf("who is there: %s", got)
	}
	sees(bob, 2, "ada", "bob")
	if err := chromedp.Cancel(tabs[4].ctx); err != nil {
		t.Fatal(err)
	}
	sees(bob, 1, "bob")
	if most := eval[int](t, bob, "most"); most != 2 {
		t.Errorf("at a time there were %d members", most)
	}

	ada := enter("ada")
	sees(bob, 2, "ada", "bob")
	s.reload(config(members(1), site))
	sees(bob, 2)
	sees(ada, 2)
	s.reload(config(members(10), site))
	sees(bob, 2, "ada", "bob")
}
