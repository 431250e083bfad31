package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// detachedScript is a page that fetches after each event, and reports what has come and what
// went wrong after the last.
const detachedScript = "<script>" +
	"const got = [], wrong = [], tell = (channel, value) => fetch('/live/' + channel, {method: 'PUT', body: JSON.stringify(value)});" +
	"const source = new EventSource('/live/a');" +
	"source.onerror = () => wrong.push('the stream broke');" +
	"source.addEventListener('evstream.open', () => tell('here', performance.getEntriesByType('navigation')[0].nextHopProtocol));" +
	"source.onmessage = async (e) => {" +
	"got.push(e.data.length); const n = got.length;" +
	"const r = await fetch('/page?' + n); if (!r.ok || !await r.text()) wrong.push(n);" +
	"if (e.data === 'done') tell('report', {got, wrong}); };" +
	"</script>"

// Chromium reads a detached stream over TLS beside its other requests, through a reload
// of Caddy, and misses nothing.
func TestChromiumReadsADetachedStream(t *testing.T) {
	t.Run("over HTTP/1.1", func(t *testing.T) { readDetached(t, "http/1.1", "http/1", "--disable-http2", "--disable-quic") })
	t.Run("over HTTP/3", func(t *testing.T) { readDetached(t, "h3", "http/3", "--enable-quic", "--origin-to-force-quic-on=SITE") })
}

// readDetached has Chromium read over a version of HTTP, as the browser and the metrics
// call it. SITE in a flag is the address over TLS.
func readDetached(t *testing.T, browsers, ours string, flags ...string) {
	site, secure, admin := free(t), free(t), free(t)
	cert, key, spki := selfSigned(t)
	config := func(channels int) string {
		return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https disable_redirects
	metrics
	evstream {
		max_channels %d
	}
}
(site) {
	header /page Content-Type text/html
	respond /page `+"`%s`"+`
	evstream /live/* {
		allow anyone subscribe,publish,state **
	}
}
http://%s {
	import site
}
https://%s {
	tls %s %s
	import site
}
`, admin, channels, detachedScript, site, secure, cert, key)
	}
	runCaddy(t, config(100), site)
	get := func(url string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "application/json") // the value of a channel
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return ""
		}
		return strings.TrimSpace(string(body))
	}
	publish := func(data string) {
		t.Helper()
		resp, err := http.Post("http://"+site+"/live/a", "text/plain", strings.NewReader(data)) //nolint:noctx // as above
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal("publishing:", resp.Status)
		}
	}
	for i, flag := range flags {
		flags[i] = strings.ReplaceAll(flag, "SITE", secure)
	}
	startChromium(t, "https://"+secure+"/page", append(flags, "--ignore-certificate-errors-spki-list="+spki)...)
	value := func(channel string) string { return get("http://" + site + "/live/" + channel) }
	eventually(t, "the page over "+ours, func() bool { return value("here") == `"`+browsers+`"` })
	detached := regexp.MustCompile(`evstream_sessions\{[^}]*delivery="detached"[^}]*protocol="` + ours + `"[^}]*\} 1\b`)
	if figures := get("http://" + admin + "/metrics"); !detached.MatchString(figures) {
		t.Errorf("no stream over %s is detached", ours)
	}
	sizes := []int{1, 10, 100_000, 10, 30_000} // large ones are beyond what is queued
	for i := range 10 {
		if i == 5 {
			resp, err := http.Post("http://"+admin+"/load", "text/caddyfile", strings.NewReader(config(101))) //nolint:noctx // as above
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal("reloading:", resp.Status)
			}
		}
		publish(strings.Repeat("x", sizes[i%len(sizes)]))
	}
	publish("done")
	eventually(t, "the report", func() bool { return value("report") != "" })
	var report struct {
		Got   []int
		Wrong []any
	}
	if err := json.Unmarshal([]byte(value("report")), &report); err != nil {
		t.Fatal(err)
	}
	if want := append(append(append([]int{}, sizes...), sizes...), len("done")); fmt.Sprint(report.Got) != fmt.Sprint(want) || len(report.Wrong) > 0 {
		t.Errorf("the page has got %v, want %v, and %v went wrong", report.Got, want, report.Wrong)
	}
}
