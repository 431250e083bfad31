package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// browser is the Chromium of this run of the tests: each test has a tab.
var browser struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

// openBrowser starts Chromium.
func openBrowser() {
	b := &browser
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, b.err = exec.LookPath(name); b.err == nil {
			break
		}
	}
	if b.err != nil {
		b.err = fmt.Errorf("there is no Chromium: `make test` installs it (scripts/setup.sh): %w", b.err)
		return
	}
	var dir string
	if dir, b.err = os.MkdirTemp("", "evstream-chromium-"); b.err != nil {
		return
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(dir),
		chromedp.WSURLReadTimeout(patience),
	}
	for _, name := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "no-default-browser-check",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage",
		"disable-background-timer-throttling", "disable-renderer-backgrounding", "disable-backgrounding-occluded-windows",
		"ignore-certificate-errors",
	} {
		options = append(options, chromedp.Flag(name, true))
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	b.ctx, _ = chromedp.NewContext(allocator)
	b.err = chromedp.Do(b.ctx)
	b.close = func() {
		_ = chromedp.Cancel(b.ctx)
		cancel()
		_ = os.RemoveAll(dir)
	}
}

// closeBrowser ends Chromium, if it was started.
func closeBrowser() {
	if browser.close != nil {
		browser.close()
	}
}

// page is a tab of Chromium.
type page struct {
	ctx context.Context
}

// newPage opens a tab at a URL.
func newPage(t testing.TB, url string) *page {
	t.Helper()
	browser.once.Do(openBrowser)
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx)
	t.Cleanup(cancel)
	p := &page{ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // binds the tab to ctx itself
		t.Fatal(err)
	}
	do(t, p, chromedp.Navigate(url))
	return p
}

// do does something in the page.
func do[T any](t testing.TB, p *page, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// eval evaluates an expression.
func eval[T any](t testing.TB, p *page, expression string) T {
	t.Helper()
	return do(t, p, chromedp.Evaluate[T](expression))
}

// pageSource is an EventSource in a page.
type pageSource struct {
	p    *page
	name string
}

var pageSources struct {
	mu sync.Mutex
	n  int
}

// follow makes an EventSource, listening to some types beside "message".
func (p *page) follow(t testing.TB, url string, types ...string) *pageSource {
	t.Helper()
	pageSources.mu.Lock()
	pageSources.n++
	s := &pageSource{p: p, name: fmt.Sprintf("feed%d", pageSources.n)}
	pageSources.mu.Unlock()
	const script = `(() => {
		const feed = window[%q] = {events: [], messages: [], openings: [], gaps: [], moves: [], cuts: 0, state: 0};
		const source = feed.source = new EventSource(%q);
		const note = (list) => (e) => list.push({type: e.type, id: e.lastEventId, data: e.data});
		source.onmessage = note(feed.messages);
		source.onerror = () => feed.cuts++;
		for (const type of ["message", ...%q.split(",")]) source.addEventListener(type, note(feed.events));
		source.addEventListener("evstream.open", note(feed.openings));
		source.addEventListener("evstream.gap", note(feed.gaps));
		source.addEventListener("evstream.at", note(feed.moves));
		return true;
	})()`
	eval[bool](t, p, fmt.Sprintf(script, s.name, url, strings.Join(types, ",")))
	return s
}

func (s *pageSource) feed(t testing.TB) feed {
	t.Helper()
	return eval[feed](t, s.p, fmt.Sprintf("(({source, ...feed}) => ({...feed, state: source.readyState}))(window[%q])", s.name))
}

// await evaluates an expression that is a promise, and waits for it.
func await[T any](t testing.TB, p *page, expression string) T {
	t.Helper()
	return do(t, p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}
