package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// pageLarge is the size of an upload, and of a download.
const pageLarge = 10 << 20

// pageScript has streams, and work(round), which does everything else that pages do, and returns
// what went wrong.
const pageScript = `<!doctype html><title>page</title><script>
const feeds = {}, large = ` + "%d" + `;
for (const name of ["a", "b", "c"]) {
	const feed = feeds[name] = {got: [], wrong: [], open: false};
	feed.source = new EventSource("/live/" + name);
	feed.source.onmessage = (e) => feed.got.push(Number(e.data.split(" ")[0]));
	feed.source.onerror = () => feed.wrong.push("error");
	feed.source.addEventListener("evstream.open", () => { feed.open = true; });
	feed.source.addEventListener("evstream.gap", (e) => feed.wrong.push("gap " + e.data));
}
window.told = () => JSON.stringify(Object.fromEntries(Object.entries(feeds).map(([name, {got, wrong, open}]) => [name, {got, wrong, open}])));
async function work(round) {
	const wrong = [], begun = new Set();
	const check = async (name, f) => {
		begun.add(name);
		try { if (!await f()) wrong.push(name); } catch (e) { wrong.push(name + ": " + e); }
		begun.delete(name);
	};
	const all = [];
	for (let i = 0; i < 70; i++) all.push(check("fetch " + i, async () => {
		const r = await fetch("/files/small?" + round + "." + i);
		return await r.text() === round + "." + i;
	}));
	all.push(check("download", async () => (await (await fetch("/files/large?" + round)).arrayBuffer()).byteLength === large));
	all.push(check("upload", async () => await (await fetch("/files/size", {method: "POST", body: new Uint8Array(large)})).text() === large + " <nil>"));
	// All is read that has come: Firefox closes the connection if it still has some for the page
	// to read (Http2Session::ProcessSlowConsumer), whatever the server.
	for (let i = 0; i < 5; i++) all.push(check("cancelled download " + i, async () => {
		const stop = new AbortController(), r = await fetch("/files/endless?" + round + "." + i, {signal: stop.signal});
		const reader = r.body.getReader();
		for (let left = 65536; left > 0;) left -= (await reader.read()).value.length;
		stop.abort();
		return true;
	}));
	for (let i = 0; i < 5; i++) all.push(check("cancelled stream " + i, () => new Promise((done) => {
		const source = new EventSource("/live/a");
		source.onerror = () => { source.close(); done(false); };
		source.onmessage = () => { source.close(); done(true); };
	})));
	await Promise.race([Promise.all(all), new Promise((late) => setTimeout(late, 25000))]);
	for (const name of begun) wrong.push(name + " does not end");
	for (const e of performance.getEntriesByType("resource"))
		if (e.nextHopProtocol && e.nextHopProtocol !== "%s") wrong.push(e.name + " over " + e.nextHopProtocol);
	performance.clearResourceTimings();
	return wrong.join("; ");
}
</script>`

// pageSite is a Caddyfile with the page over TLS and a version of HTTP, whose streams are detached.
func pageSite(version, admin, site, secure, files, cert, key string, n int) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	metrics
	evstream {
		history %d
	}
	servers {
		protocols h1 %s
	}
}
(site) {
	reverse_proxy /files/* %s
	evstream /live/* {
		allow anyone subscribe,publish **
	}
}
http://%s {
	import site
}
https://%s {
	tls %s %s
	import site
}
`, admin, 10_000+n, version, strings.TrimPrefix(files, "http://"), site, secure, cert, key)
}

// TestAPageOfEachBrowser has pages of Firefox and of Chromium over HTTP/2 and HTTP/3 with three
// detached streams, 280 fetches, uploads and downloads of 10 MiB, cancellations of either and
// reloads of Caddy beside, and at rest in between: nothing fails, and each event comes once, in
// order.
func TestAPageOfEachBrowser(t *testing.T) {
	for name, c := range map[string]struct {
		open    opener
		version string
		reloads int // after the last rounds
	}{
		"Firefox over HTTP/2":  {openInFirefox, "h2", 2},
		"Chromium over HTTP/2": {openInChromium, "h2", 2},
		// When Caddy has said GOAWAY Firefox reads the streams of the connection on, but has all
		// other requests wait, with attached streams, too. So no round follows the reload.
		"Firefox over HTTP/3":  {openInFirefox, "h3", 1},
		"Chromium over HTTP/3": {openInChromium, "h3", 2},
	} {
		t.Run(name, func(t *testing.T) { workOnPage(t, c.version, c.reloads, c.open) })
	}
}

// opener opens a page over a version of HTTP in a browser, which then evaluates scripts there.
// The hash of the key tells the site.
type opener func(t *testing.T, version, url, spki string) (evaluate func(script string) string)

func openInFirefox(t *testing.T, version, url, _ string) func(string) string {
	var preferences []string
	if version == "h3" {
		preferences = quicOnly(t, url)
	}
	tab := openFirefox(t, preferences...).open(url)
	t.Cleanup(tab.close) // a QUIC connection of a program that was killed lasts for 30 s
	return func(script string) (value string) {
		t.Helper()
		tab.do("return "+script, &value)
		return value
	}
}

func openInChromium(t *testing.T, version, url, spki string) func(string) string {
	flags := []chromedp.ExecAllocatorOption{chromedp.Flag("ignore-certificate-errors-spki-list", spki)}
	if version == "h3" {
		flags = append(flags, chromedp.Flag("enable-quic", true), chromedp.Flag("origin-to-force-quic-on", strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/files/page")))
	}
	d := newDevice(t, openChromium(t, flags...), url)
	return func(script string) string {
		t.Helper()
		return await[string](t, d, "(async () => "+script+")()")
	}
}

// workOnPage has a page work over a version of HTTP: h2 or h3, as Caddy and browsers call them.
func workOnPage(t *testing.T, version string, reloads int, open opener) {
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/files/page":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = fmt.Fprintf(w, pageScript, pageLarge, version)
		case "/files/large":
			_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), pageLarge/16))
		case "/files/endless":
			_, _ = w.Write(make([]byte, 1<<16))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/files/size":
			n, err := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, n, err)
		default:
			_, _ = io.WriteString(w, r.URL.RawQuery)
		}
	}))
	t.Cleanup(files.Close)
	admin, site, secure := free(t), free(t), free(t)
	cert, key, spki := selfSigned(t)
	config := func(n int) string { return pageSite(version, admin, site, secure, files.URL, cert, key, n) }
	runCaddy(t, config(0), site)
	page := open(t, version, "https://"+secure+"/files/page", spki)
	type feed struct {
		Got   []int
		Wrong []string
		Open  bool
	}
	told := func() (feeds map[string]feed) {
		t.Helper()
		if err := json.Unmarshal([]byte(page("told()")), &feeds); err != nil {
			t.Fatal(err)
		}
		return feeds
	}
	channels := []string{"a", "b", "c"}
	detached := regexp.MustCompile(`evstream_sessions\{[^}]*delivery="detached"[^}]*protocol="http/` + version[1:] + `"[^}]*\} 3\b`)
	eventually(t, "three detached streams", func() bool {
		feeds := told()
		return feeds["a"].Open && feeds["b"].Open && feeds["c"].Open && detached.MatchString(metricsOf(t, admin))
	})

	stop, published := make(chan struct{}), make(chan int, 1)
	go func() { // numbers, each with something to read
		n := 0
		defer func() { published <- n }()
		steady := time.NewTicker(10 * time.Millisecond)
		defer steady.Stop()
		for {
			select {
			case <-stop:
				return
			case <-steady.C:
			}
			n++
			for _, c := range channels {
				if err := publishNumber(t, site, c, n); err != nil {
					t.Errorf("publishing: %v", err)
					return
				}
			}
		}
	}()
	const rounds = 4
	for round := range rounds {
		if version == "h2" {
			eventually(t, "the connection to be parked", func() bool { return parked(t, admin) })
		}
		if wrong := page(fmt.Sprintf("await work(%d)", round)); wrong != "" {
			t.Errorf("round %d: %s", round, wrong)
		}
		if round < rounds-reloads {
			continue
		}
		answer, err := (&caddy{address: admin}).load(t, config(round+1))
		if err != nil || answer != http.StatusOK {
			t.Fatalf("reload: %d, %v", answer, err)
		}
	}
	close(stop)
	last := <-published
	for _, c := range channels {
		eventually(t, "the last event", func() bool { return len(told()[c].Got) >= last })
		f := told()[c]
		for i, n := range f.Got {
			if n != i+1 {
				t.Fatalf("stream %s: event %d is %d", c, i+1, n)
			}
		}
		if len(f.Got) != last || len(f.Wrong) > 0 {
			t.Errorf("stream %s: %d of %d events, and %q", c, len(f.Got), last, f.Wrong)
		}
	}
	if !detached.MatchString(metricsOf(t, admin)) {
		t.Error("the streams are not detached at the end")
	}
}

// publishNumber publishes n as often as it takes around a reload, and once for its readers.
func publishNumber(t *testing.T, site, channel string, n int) error {
	var failure error
	for range 20 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+site+"/live/"+channel,
			strings.NewReader(strconv.Itoa(n)+" "+strings.Repeat("x", n%3_000)))
		if err != nil {
			return err
		}
		r.Header.Set("Idempotency-Key", channel+strconv.Itoa(n))
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it is answered %d", answer.StatusCode)
		}
		failure = err
	}
	return failure
}

// load has Caddy take over a Caddyfile, by its admin endpoint.
func (c *caddy) load(t *testing.T, text string) (status int, err error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.address+"/load", strings.NewReader(text))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, nil
}
