package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// evstream.js in Chromium, as a hub serves it.

// livePage is a page that has connected to a hub as docs/browser.md says.
type livePage struct {
	*page
	t testing.TB
}

// connectPage opens a page and connects it. What it is told is in got, as JSON: events as
// their data, and the rest with what it is.
func connectPage(t testing.TB, url, options string) *livePage {
	t.Helper()
	p := &livePage{newPage(t, url), t}
	p.connect(options)
	return p
}

// connect connects the page.
func (p *livePage) connect(options string) {
	p.t.Helper()
	await[bool](p.t, p.page, `(async () => {
		const { connect } = await import('/live/_client.js');
		window.got = [];
		window.note = (kind) => (...args) => got.push(kind + args.map((x) => JSON.stringify(x) ?? 'none').join(' '));
		window.event = (e) => got.push(e.data);
		window.sessions = [];
		window.live = connect('/live', `+options+`);
		for (const type of ['gap', 'error', 'closed', 'end', 'message', 'expiring'])
			live.addEventListener(type, (e) => { e.preventDefault(); note(type + ' ')(e.detail); });
		return true;
	})()`)
}

// do runs statements in the page.
func (p *livePage) do(script string) {
	p.t.Helper()
	await[bool](p.t, p.page, "(async () => { "+script+"; return true })()")
}

// opens waits until the page reads.
func (p *livePage) opens() {
	p.t.Helper()
	eventually(p.t, "the page to read", func() bool { return eval[string](p.t, p.page, "live.state") == "open" })
}

// gets waits until the page was told all of that, in that order, and nothing else.
func (p *livePage) gets(want ...string) {
	p.t.Helper()
	var got []string
	eventually(p.t, fmt.Sprintf("the page to be told %q", want), func() bool {
		got = eval[[]string](p.t, p.page, "got")
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		p.t.Fatalf("the page was told\n%q\nnot\n%q", got, want)
	}
}

// write makes a request that must succeed.
func write(t testing.TB, method, url, mediaType, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	answer, err := plainClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s", method, url, answer.Status, text)
	}
}

func liveSite(more string) string {
	return config(`
	evstream {
		channel short {
			history 1
		}
		channel carts/* {
			format merge-patch
		}
		channel lists/* {
			format json-patch
			key list
		}
`+more+`
	}
`, `
	evstream /live/* {
		allow anyone subscribe,publish,state a b rooms/* football/** short carts/* lists/* finite flow
		retry 100ms 200ms
	}
`)
}

func connections(s *server, n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d streams", n), func() bool { return s.metric(`evstream_connections{broker="default"}`) == n })
}

// TestTabsShareAStreamAndGoOnWithoutTheirLeader has two tabs read while numbers are
// published, the configuration is replaced, and the tab goes that has the EventSource.
func TestTabsShareAStreamAndGoOnWithoutTheirLeader(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live", key: "tabs"}
	publish := func(n int) {
		t.Helper()
		for range n {
			if err := pub.publish("flow"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var tabs []*livePage
	for range 3 {
		tab := connectPage(t, "http://"+s.plain+"/page", "{}")
		tab.do("live.on('flow', event)")
		tab.opens()
		tabs = append(tabs, tab)
	}
	connections(s, 1)
	numbers := func(from, to int) (list []string) {
		for n := from; n <= to; n++ {
			list = append(list, fmt.Sprint(n))
		}
		return list
	}
	publish(50)
	for _, tab := range tabs {
		tab.gets(numbers(1, 50)...)
	}

	s.reload(strings.Replace(liveSite(""), "retry 100ms", "retry 101ms", 1))
	publish(50)
	for _, tab := range tabs {
		tab.gets(numbers(1, 100)...)
	}
	connections(s, 1)

	// The first tab leads. What is published while it goes, and another one begins, comes once.
	done := make(chan error, 1)
	go func() {
		for range 200 {
			if err := pub.publish("flow"); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for _, tab := range tabs[:2] {
		if err := chromedp.Cancel(tab.ctx); err != nil { // closes it
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	publish(10)
	tabs[2].gets(numbers(1, 310)...)
	connections(s, 1)
}

// TestAPageConnectsAsTheDocumentSays runs the script of docs/browser.md.
func TestAPageConnectsAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	s := start(t, config("", "\tevstream /live/* {\n\t\tallow anyone subscribe,publish,state **\n\t}\n"))
	p := &livePage{newPage(t, "http://"+s.plain+"/page"), t}
	p.do("window.got = []; const show = (...args) => got.push(args.join(' ')); " +
		documented(t, "docs/browser.md", snippets["docs/browser.md"][0]) + "window.live = live")
	p.gets("none")
	base := "http://" + s.plain + "/live/"
	write(t, "POST", base+"match.7?event=goal", "", "Arsenal")
	write(t, "POST", base+"chat/1", "", "hello")
	write(t, "PUT", base+"user-count", "", "42")
	p.gets("none", "Arsenal", "chat/1 message hello", "42")
}

func TestAPageJoinsAndLeavesThroughTheHelper(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	base := "http://" + s.plain + "/live/"
	post := func(channel, data string) { t.Helper(); write(t, "POST", base+channel, "", data) }
	p := connectPage(t, "http://"+s.plain+"/page", "{}")
	reads := func(want string) {
		t.Helper()
		eventually(t, "a session that reads "+want, func() bool {
			return strings.Contains(get(t, "http://"+s.admin+"/evstream/_sessions"), `"channels":`+want)
		})
	}
	p.do("live.on('a', event)")
	p.opens()
	p.do("window.leave = live.on('rooms/1', 'chat', (e) => note('')(e))")
	reads(`["a","rooms/1"]`)
	post("rooms/1?event=other", "not listened to")
	post("rooms/1?event=chat&id=mine", "hello")
	post("a", "1")
	post("football/", "not read")
	p.gets(`{"channel":"rooms/1","event":"chat","data":"hello","id":"mine"}`, "1")

	p.do("got.length = 0; leave(); live.on('football/**', event)")
	reads(`["a","football/**"]`)
	p.do("live.on('rooms/*', event)")
	reads(`["a","football/**","rooms/*"]`)
	post("football/x/y", "2")
	post("football/", "3")
	post("rooms/7", "4")
	p.gets("2", "3", "4")
	if n := s.metric(`evstream_disconnects_total{broker="default",reason="client"}`); n != 0 {
		t.Errorf("%d streams ended", n)
	}
	connections(s, 1)

	// What may not be read is said, and nothing else suffers.
	p.do("got.length = 0; window.leave = live.on('secret', event)")
	eventually(t, "an error", func() bool { return eval[int](t, p.page, "got.length") == 1 })
	if told := eval[string](t, p.page, "got[0]"); !strings.HasPrefix(told, `error {"channel":"secret","status":40`) || !strings.Contains(told, "urn:evstream:problem:") {
		t.Errorf("the page was told %s", told)
	}
	post("a", "6")
	eventually(t, "the next event", func() bool { return eval[string](t, p.page, "got.at(-1)") == "6" })

	// Cut, it reads on where it was, also what it has joined.
	// It would ask for the secret again, and say so.
	p.do("leave(); got.length = 0; dispatchEvent(new Event('pagehide'))")
	connections(s, 0)
	post("rooms/7", "7")
	post("a", "8")
	p.do("dispatchEvent(new Event('pageshow'))")
	p.gets("7", "8")
}

func TestValuesThroughTheHelper(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	base := "http://" + s.plain + "/live/"
	cart := `{"pen":1,"paper":{"a4":250,"a5":100},"ink":["black","blue"],"note":"a text that makes patches worth while"}`
	write(t, "PUT", base+"carts/7", "", cart)
	p := connectPage(t, "http://"+s.plain+"/page", "{}")
	p.do("live.value('carts/7', note('cart ')); live.value('a', note('a '))")
	p.gets("a none \"a\"", "cart "+cart+` "carts/7"`)

	write(t, "PATCH", base+"carts/7", "application/merge-patch+json", `{"pen":2,"paper":{"a5":null,"a3":1}}`)
	write(t, "PUT", base+"a", "", "null")
	write(t, "DELETE", base+"a", "", "")
	p.do("live.value('b', note('b '))") // joins
	p.gets("a none \"a\"", "cart "+cart+` "carts/7"`,
		`cart {"pen":2,"paper":{"a4":250,"a3":1},"ink":["black","blue"],"note":"a text that makes patches worth while"} "carts/7"`,
		`a null "a"`, `a none "a"`, `b none "b"`)

	p.do("got.length = 0; live.value('lists/*', note(''))")
	eventually(t, "the pattern to be read", func() bool {
		return strings.Contains(get(t, "http://"+s.admin+"/evstream/_sessions"), `"lists/*"`)
	})
	list := `{"items":[1,2,3,4,5],"a/b~c":{"x":1},"note":"a text that makes patches worth while, longer than they are, and than any of them is"}`
	write(t, "PUT", base+"lists/1", "", list)
	write(t, "PATCH", base+"lists/1", "application/json-patch+json", `[
		{"op":"remove","path":"/items/1"},{"op":"replace","path":"/a~1b~0c/x","value":[null]}]`)
	write(t, "PATCH", base+"lists/1", "application/json-patch+json", `[{"op":"add","path":"/items/0","value":0},{"op":"add","path":"/new","value":null}]`)
	write(t, "PATCH", base+"lists/1", "application/json-patch+json", `[{"op":"add","path":"/items/-","value":6},{"op":"remove","path":"/a~1b~0c"}]`)
	rest := `,"note":"a text that makes patches worth while, longer than they are, and than any of them is"`
	p.gets(list+` "lists/1"`,
		`{"items":[1,3,4,5],"a/b~c":{"x":[null]}`+rest+`} "lists/1"`,
		`{"items":[0,1,3,4,5],"a/b~c":{"x":[null]}`+rest+`,"new":null} "lists/1"`,
		`{"items":[0,1,3,4,5,6]`+rest+`,"new":null} "lists/1"`)

	// A value cannot reach the page's own objects.
	p.do("got.length = 0")
	write(t, "PATCH", base+"lists/1", "application/json-patch+json", `[{"op":"add","path":"/__proto__","value":{"a":1}}]`)
	write(t, "PATCH", base+"lists/1", "application/json-patch+json", `[{"op":"add","path":"/__proto__/polluted","value":1}]`)
	write(t, "PATCH", base+"carts/7", "application/merge-patch+json", `{"__proto__":{"polluted":1}}`)
	eventually(t, "all three", func() bool { return eval[int](t, p.page, "got.length") == 3 })
	if eval[bool](t, p.page, "'polluted' in {}") {
		t.Error("every object of the page is polluted")
	}

	// Another tab has the values at once, from the first, and applies patches itself.
	q := connectPage(t, "http://"+s.plain+"/page", "{}")
	q.do("live.value('b', note('b ')); live.value('lists/1', (x) => got.push(String(x.items)))")
	q.gets("b none \"b\"", "0,1,3,4,5,6")
	write(t, "PATCH", base+"lists/1", "application/json-patch+json", `[{"op":"remove","path":"/items/5"}]`)
	q.gets("b none \"b\"", "0,1,3,4,5,6", "0,1,3,4,5")
	connections(s, 1)
}

func TestTheHelperTellsGapsAndTheEnd(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	base := "http://" + s.plain + "/live/"
	p := connectPage(t, "http://"+s.plain+"/page", "{share: false}")
	p.do("live.on('short', event); live.on('finite', event)")
	p.opens()
	write(t, "POST", base+"short", "", "1")
	p.gets("1")
	p.do("dispatchEvent(new Event('pagehide'))") // into the cache of pages
	connections(s, 0)
	for _, data := range []string{"2", "3", "4"} {
		write(t, "POST", base+"short", "", data)
	}
	p.do("dispatchEvent(new Event('pageshow'))")
	eventually(t, "the page to be told", func() bool { return eval[int](t, p.page, "got.length") == 3 })
	if told := eval[string](t, p.page, "got.slice(1).join()"); !strings.HasPrefix(told, `gap {"reason":"trimmed","oldest":`) || !strings.HasSuffix(told, ",4") {
		t.Errorf("after the first event the page was told %s", told)
	}

	p.do("got.length = 0")
	write(t, "POST", base+"finite?close", "", "5")
	write(t, "POST", base+"short?close", "", "")
	p.gets("5", `closed {"channel":"finite"}`, `end {}`)
	connections(s, 0)
	if state := eval[string](t, p.page, "live.state"); state != "ended" {
		t.Errorf("the state is %s", state)
	}
	p.do("got.length = 0; live.on('a', event)") // which begins anew
	p.opens()
	write(t, "POST", base+"a", "", "6")
	p.gets("6")

	// Refused, it says so, and goes on trying.
	q := connectPage(t, "http://"+s.plain+"/page", "{share: false}")
	q.do("live.on('secret', event)")
	eventually(t, "an error", func() bool { return eval[int](t, q.page, "got.length") >= 1 })
	if told := eval[string](t, q.page, "got[0]"); !strings.HasPrefix(told, `error {"status":403,`) || !strings.Contains(told, `channel \"secret\"`) {
		t.Errorf("the page was told %s", told)
	}
}

func TestTheHelperRenewsItsTicket(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		jwt {
			key "`+jwtKey+`"
		}
		tickets
		allow user subscribe a
		allow anyone publish a
		retry 100ms 200ms
	}
`))
	first, second := tokenOf(t, "alice", time.Now().Add(20*time.Second)), tokenOf(t, "alice", time.Now().Add(time.Hour))
	p := connectPage(t, "http://"+s.plain+"/page", fmt.Sprintf("{ token: async () => (window.asked = (window.asked ?? 0) + 1) > 1 ? %q : %q }", second, first))
	p.do("live.on('a', event)")
	p.opens()
	pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	// Half of the token's time before its end the hub says that it expires.
	eventually(t, "another ticket", func() bool {
		if err := pub.publish("a"); err != nil {
			t.Fatal(err)
		}
		return eval[int](t, p.page, "window.asked") >= 2
	})
	for range 5 {
		if err := pub.publish("a"); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprint(pub.last)
	eventually(t, "the last event", func() bool { return eval[string](t, p.page, "got.at(-1)") == want })
	last := 0
	for _, got := range eval[[]string](t, p.page, "got") {
		if strings.HasPrefix(got, "expiring ") {
			continue
		}
		if last++; got != fmt.Sprint(last) {
			t.Fatalf("after %d came %s", last-1, got)
		}
	}
}

func TestPresenceThroughTheHelper(t *testing.T) {
	t.Parallel()
	// The name of the cookie is no other test's: browsers send it to every port.
	s := start(t, config("\tevstream {\n\t\tchannel chat/* {\n\t\t\tpresence\n\t\t\tpresence_grace 100ms\n\t\t}\n\t}\n", `
	evstream /live/* {
		jwt {
			key "`+jwtKey+`"
		}
		cookie helped
		allow user subscribe,presence chat/*
		retry 100ms 200ms
	}
`))
	p := newPage(t, "https://"+s.tls+"/page")
	eval[bool](t, p, fmt.Sprintf(`!!(document.cookie = "helped=%s; path=/live")`, tokenOf(t, "ada", time.Now().Add(time.Hour))))
	ada := connectPage(t, "https://"+s.tls+"/page", "{}")
	ada.do("live.on('chat/2', event)")
	ada.opens()
	sees := func(want string) {
		t.Helper()
		eventually(t, "the page to see "+want, func() bool { return eval[string](t, ada.page, "window.seen ?? ''") == want })
	}
	ada.do("live.presence('chat/1', (members, count) => { window.seen = members.map((m) => m.user).sort() + ' ' + count; })")
	sees("ada 1")
	bob := readWith(t, s, tokenOf(t, "bob", time.Now().Add(time.Hour)), "chat/1")
	sees("ada,bob 2")
	bob()
	sees("ada 1")
}

// readWith reads a channel with a token, until what it returns is called.
func readWith(t testing.TB, s *server, token, channel string) func() {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.plain+"/live/"+channel, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := plainClient(t).Do(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(err, answer)
	}
	return func() { _ = answer.Body.Close() }
}
