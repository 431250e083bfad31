package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// fronted is a site over TLS whose streams over HTTP/2 are detached, after the nth reload.
func fronted(n int, files string) string {
	return fmt.Sprintf(`{
	admin {{admin}}
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	evstream {
		history %d
	}
}
https://{{tls}} {
	tls internal
	header /page Content-Type "text/html; charset=utf-8"
	respond /page "<!doctype html><title>e2e</title>"
	reverse_proxy /files/* %s
	evstream /live/* {
		allow anyone subscribe,publish **
	}
}
`, 1000+n, strings.TrimPrefix(files, "http://"))
}

// TestAPageWithStreamsAndAllElseOverHTTP2 has a page in Chromium with three streams that are
// detached, fetches, uploads, downloads, cancellations and reloads of Caddy beside: nothing
// fails, and each event comes once.
func TestAPageWithStreamsAndAllElseOverHTTP2(t *testing.T) {
	const large = 2 << 20
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/files/large":
			_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), large/16))
		case "/files/size":
			n, err := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, n, err)
		default:
			_, _ = io.WriteString(w, r.URL.RawQuery)
		}
	}))
	defer files.Close()
	s := start(t, fronted(0, files.URL))
	base := "https://" + s.tls
	p := newPage(t, base+"/page")
	channels := []string{"a", "b", "c"}
	var feeds []*pageSource
	for _, c := range channels {
		feeds = append(feeds, p.follow(t, base+"/live/"+c))
	}
	detached := func() int {
		return s.metric(`evstream_sessions{broker="default",delivery="detached",protocol="http/2"}`)
	}
	eventually(t, "three detached streams", func() bool { return detached() == 3 })

	publishers := make([]*publisher, len(channels))
	stop, published := make(chan struct{}), make(chan error, len(channels))
	for i, c := range channels {
		publishers[i] = &publisher{client: tlsH2.client(t), base: base + "/live", key: c}
		go func() {
			steady := time.NewTicker(10 * time.Millisecond)
			defer steady.Stop()
			for {
				if err := publishers[i].publish(c); err != nil {
					published <- err
					return
				}
				select {
				case <-stop:
					published <- nil
					return
				case <-steady.C:
				}
			}
		}()
	}
	for n := range 2 {
		// What fails is told by its name.
		bad := await[string](t, p, fmt.Sprintf(`(async () => {
			const bad = [], large = %d
			const check = async (name, work) => { try { if (!await work()) bad.push(name) } catch (e) { bad.push(name + ": " + e) } }
			const small = (i) => check("fetch " + i, async () => await (await fetch("/files/small?" + i)).text() === String(i))
			const work = []
			for (let i = 0; i < 100; i++) work.push(small(i))
			work.push(check("download", async () => (await (await fetch("/files/large")).arrayBuffer()).byteLength === large))
			work.push(check("upload", async () => await (await fetch("/files/size", {method: "POST", body: new Uint8Array(large)})).text() === large + " <nil>"))
			for (let i = 0; i < 5; i++) work.push(check("cancellation", async () => {
				const stop = new AbortController(), answer = await fetch("/files/large?" + i, {signal: stop.signal})
				await answer.body.getReader().read()
				stop.abort()
				return true
			}))
			await Promise.all(work)
			return bad.join("; ")
		})()`, large))
		if bad != "" {
			t.Fatalf("round %d: %s", n, bad)
		}
		s.reload(fronted(n+1, files.URL))
	}
	close(stop)
	for range channels {
		if err := <-published; err != nil {
			t.Fatal(err)
		}
	}
	for i, feed := range feeds {
		eventually(t, "the last event", func() bool { return len(feed.feed(t).Events) >= publishers[i].last })
		f := feed.feed(t)
		f.numbers(t, publishers[i].last)
		if f.Cuts > 0 || len(f.Gaps) > 0 {
			t.Errorf("stream %s was cut %d times, with gaps %v", channels[i], f.Cuts, f.Gaps)
		}
	}
	if n := detached(); n != 3 {
		t.Errorf("%d streams are detached, not 3", n)
	}
}
