package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// firefoxTabs is a Firefox whose tabs are driven over Marionette, the protocol that it has
// for that: JSON after its length, commands that are answered one by one.
type firefoxTabs struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	n    int
}

// openFirefox opens one, with preferences beside its own.
func openFirefox(t *testing.T, preferences ...string) *firefoxTabs {
	t.Helper()
	path, err := installed("firefox-esr", "firefox")
	if err != nil {
		t.Fatal(err)
	}
	dir, address := t.TempDir(), strings.Replace(free(t), "localhost", "127.0.0.1", 1)
	_, port, _ := net.SplitHostPort(address)
	if err := os.WriteFile(filepath.Join(dir, "user.js"), []byte(`user_pref("marionette.port", `+port+`);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.disabledForTesting", true);
`+strings.Join(preferences, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, dir, path, "--headless", "--no-remote", "--marionette", "--profile", dir)
	cmd.Env = append(os.Environ(), "HOME="+dir, "MOZ_DISABLE_CONTENT_SANDBOX=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	f := &firefoxTabs{t: t}
	eventually(t, "Firefox to listen", func() bool {
		f.conn, err = net.Dial("tcp", address)
		return err == nil
	})
	t.Cleanup(func() { _ = f.conn.Close() })
	f.in = bufio.NewReader(f.conn)
	f.read(nil) // its greeting
	f.call("WebDriver:NewSession", map[string]any{"acceptInsecureCerts": true}, nil)
	return f
}

// quicOnly are the preferences by which Firefox reads a site over HTTP/3 from the first request on,
// also with a certificate that no public authority has signed.
func quicOnly(t *testing.T, site string) []string {
	t.Helper()
	u, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		fmt.Sprintf(`user_pref("network.http.http3.alt-svc-mapping-for-testing", "%s;h3=:%s");`, u.Hostname(), u.Port()),
		`user_pref("network.http.http3.disable_when_third_party_roots_found", false);`,
	}
}

func (f *firefoxTabs) read(answer any) {
	f.t.Helper()
	if err := f.conn.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		f.t.Fatal(err)
	}
	length, err := f.in.ReadString(':')
	if err != nil {
		f.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		f.t.Fatal(err)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(f.in, body); err != nil {
		f.t.Fatal(err)
	}
	if answer != nil {
		if err := json.Unmarshal(body, answer); err != nil {
			f.t.Fatal(err)
		}
	}
}

// call has a command done, and decodes the value of its answer.
func (f *firefoxTabs) call(name string, arguments map[string]any, value any) {
	f.t.Helper()
	f.n++
	body, err := json.Marshal([]any{0, f.n, name, arguments})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f.conn, "%d:%s", len(body), body); err != nil {
		f.t.Fatal(err)
	}
	var answer [4]json.RawMessage // 1, the number, what failed, the result
	f.read(&answer)
	if string(answer[2]) != "null" {
		f.t.Fatalf("%s: %s", name, answer[2])
	}
	if value == nil {
		return
	}
	if err := json.Unmarshal(answer[3], value); err != nil {
		f.t.Fatalf("%s: %v: %s", name, err, answer[3])
	}
}

// firefoxTab is one of its tabs.
type firefoxTab struct {
	f      *firefoxTabs
	handle string
}

// open opens a tab at a URL.
func (f *firefoxTabs) open(url string) *firefoxTab {
	f.t.Helper()
	var window struct{ Handle string }
	f.call("WebDriver:NewWindow", map[string]any{"type": "tab"}, &window)
	tab := &firefoxTab{f, window.Handle}
	tab.choose()
	f.call("WebDriver:Navigate", map[string]any{"url": url}, nil)
	return tab
}

func (tab *firefoxTab) choose() {
	tab.f.t.Helper()
	tab.f.call("WebDriver:SwitchToWindow", map[string]any{"handle": tab.handle, "focus": false}, nil)
}

// do runs statements in the page, in which await can be used, and decodes what they return.
func (tab *firefoxTab) do(script string, value any) {
	tab.f.t.Helper()
	tab.choose()
	var result struct{ Value json.RawMessage }
	tab.f.call("WebDriver:ExecuteAsyncScript", map[string]any{"sandbox": nil, "scriptTimeout": 30000, "args": []any{}, "script": `
		const done = arguments[arguments.length - 1];
		(async () => { ` + script + ` })().then((value) => done({ value }), (e) => done({ failed: String(e) }));`}, &result)
	var outcome struct {
		Value  json.RawMessage
		Failed string
	}
	if err := json.Unmarshal(result.Value, &outcome); err != nil || outcome.Failed != "" {
		tab.f.t.Fatal(err, outcome.Failed)
	}
	if value == nil {
		return
	}
	if err := json.Unmarshal(outcome.Value, value); err != nil {
		tab.f.t.Fatal(err)
	}
}

func (tab *firefoxTab) close() {
	tab.f.t.Helper()
	tab.choose()
	tab.f.call("WebDriver:CloseWindow", map[string]any{}, nil)
}

// gets waits until a tab was told all of that, in that order, and nothing else.
func (tab *firefoxTab) gets(want ...string) {
	tab.f.t.Helper()
	var got []string
	eventually(tab.f.t, fmt.Sprintf("the tab to be told %q", want), func() bool {
		tab.do("return got", &got)
		return len(got) >= len(want)
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		tab.f.t.Fatalf("the tab was told\n%q\nnot\n%q", got, want)
	}
}

// TestTabsOfFirefoxShareAStream has two tabs read events and a value while Caddy is
// reloaded and the tab goes that has the EventSource.
func TestTabsOfFirefoxShareAStream(t *testing.T) {
	site, admin := free(t), free(t)
	config := func(retry string) string {
		return fmt.Sprintf(`{
	admin %s
	persist_config off
	evstream {
		channel carts/* {
			format merge-patch
		}
	}
}
http://%s {
	evstream /live/* {
		allow anyone all **
		retry %s
	}
	header /page Content-Type text/html
	respond /page "<!doctype html><title>Firefox</title>"
}
`, admin, site, retry)
	}
	runCaddy(t, config("100ms 200ms"), site)
	send := func(method, url, mediaType, body string) {
		t.Helper()
		r, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if mediaType != "" {
			r.Header.Set("Content-Type", mediaType)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode/100 != 2 {
			t.Fatal(err, resp)
		}
	}
	publish := func(from, to int) {
		t.Helper()
		for n := from; n <= to; n++ {
			send("POST", "http://"+site+"/live/flow", "", fmt.Sprint(n))
		}
	}
	streams := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d streams", want), func() bool {
			resp, err := http.Get("http://" + admin + "/evstream/_sessions")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var doc struct{ Sessions []any }
			return json.NewDecoder(resp.Body).Decode(&doc) == nil && len(doc.Sessions) == want
		})
	}
	numbers := func(from, to int) (list []string) {
		for n := from; n <= to; n++ {
			list = append(list, fmt.Sprint(n))
		}
		return list
	}
	const cart = `{"pen":1,"paper":{"a4":250,"a5":100},"ink":["black","blue"],"note":"a text that makes patches worth while"}`
	send("PUT", "http://"+site+"/live/carts/7", "", cart)

	f := openFirefox(t)
	connect := func() *firefoxTab {
		t.Helper()
		tab := f.open("http://" + site + "/page")
		tab.do(`
			const { connect } = await import('/live/_client.js');
			window.got = [];
			window.live = connect('/live');
			for (const type of ['gap', 'error', 'end'])
				live.addEventListener(type, (e) => got.push(type + ' ' + JSON.stringify(e.detail)));
			live.on('flow', (e) => got.push(e.data));
			live.value('carts/7', (cart) => { window.cart = cart; })`, nil)
		eventually(t, "the tab to read", func() bool {
			var ready bool
			tab.do("return live.state === 'open' && !!window.cart", &ready)
			return ready
		})
		return tab
	}
	has := func(tab *firefoxTab, pens int) {
		t.Helper()
		eventually(t, "the value", func() bool {
			var text string
			tab.do("return JSON.stringify(window.cart)", &text)
			return text == strings.Replace(cart, `"pen":1`, fmt.Sprintf(`"pen":%d`, pens), 1)
		})
	}
	first, second := connect(), connect()
	streams(1)
	has(second, 1)
	publish(1, 20)
	send("PATCH", "http://"+site+"/live/carts/7", "application/merge-patch+json", `{"pen":2}`)
	for _, tab := range []*firefoxTab{first, second} {
		tab.gets(numbers(1, 20)...)
		has(tab, 2)
	}

	send("POST", "http://"+admin+"/load", "text/caddyfile", config("101ms 201ms"))
	publish(21, 40)
	send("PATCH", "http://"+site+"/live/carts/7", "application/merge-patch+json", `{"pen":3}`)
	for _, tab := range []*firefoxTab{first, second} {
		tab.gets(numbers(1, 40)...)
		has(tab, 3)
	}
	streams(1)

	// The first leads. Events come while it is closed.
	third := connect()
	published := make(chan struct{})
	go func() {
		defer close(published)
		publish(41, 140)
	}()
	first.close()
	<-published
	publish(141, 145)
	send("PATCH", "http://"+site+"/live/carts/7", "application/merge-patch+json", `{"pen":4}`)
	second.gets(numbers(1, 145)...)
	has(second, 4)
	has(third, 4)
	third.gets(numbers(41, 145)...)
	streams(1)
}
