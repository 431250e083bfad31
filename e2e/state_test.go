package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const stateSite = `
	evstream /live/* {
		allow anyone subscribe,publish,state **
	}
`

// count sends increments of the count from a page, all at once.
func (p *page) count(t testing.TB, n int) {
	t.Helper()
	const script = `(() => {
		window.sent = window.sent || {done: 0, failed: 0};
		for (let i = 0; i < %d; i++) fetch("/live/count?incr=1", {method: "PATCH"})
			.then(r => r.ok ? window.sent.done++ : window.sent.failed++, () => window.sent.failed++);
		return true;
	})()`
	eval[bool](t, p, fmt.Sprintf(script, n))
}

// counted are the values of all events that a page was told.
func counted(t testing.TB, f *feed) []int {
	t.Helper()
	var values []int
	for _, e := range f.Events {
		text, ok := strings.CutPrefix(e.Data, `{"value":`)
		n, err := strconv.Atoi(strings.TrimSuffix(text, "}"))
		if !ok || err != nil || e.Type != "count" {
			t.Fatalf("a page was told %+v", e)
		}
		if len(values) > 0 && n <= values[len(values)-1] {
			t.Fatalf("a page was told %d after %d", n, values[len(values)-1])
		}
		values = append(values, n)
	}
	return values
}

// TestPagesShareACounter: two pages count together, and the first event of a third
// one has the count.
func TestPagesShareACounter(t *testing.T) {
	t.Parallel()
	s := start(t, config("", stateSite))
	for _, proto := range []string{"http://" + s.plain, "https://" + s.tls} {
		t.Run(strings.SplitN(proto, ":", 2)[0], func(t *testing.T) {
			site := proto
			reset(t, s)
			pages := []*page{newPage(t, site+"/page"), newPage(t, site+"/page")}
			var sources []*pageSource
			for _, p := range pages {
				source := p.follow(t, "/live/count", "count")
				eventually(t, "the page's stream opens", func() bool { f := source.feed(t); return len(f.Openings) == 1 })
				sources = append(sources, source)
			}
			const each = 100
			for range 5 {
				for _, p := range pages {
					p.count(t, each/5)
				}
			}
			for i, p := range pages {
				eventually(t, "all increments are answered", func() bool {
					return eval[int](t, p, "window.sent.done + window.sent.failed") == each
				})
				if failed := eval[int](t, p, "window.sent.failed"); failed > 0 {
					t.Errorf("%d increments of page %d failed", failed, i)
				}
			}
			last := func(source *pageSource) int {
				f := source.feed(t)
				if values := counted(t, &f); len(values) > 0 {
					return values[len(values)-1]
				}
				return 0
			}
			for _, source := range sources {
				eventually(t, "both pages see the sum", func() bool { return last(source) == 2*each })
			}

			third := newPage(t, site+"/page")
			late := third.follow(t, "/live/count", "count")
			eventually(t, "the third page gets an event", func() bool { f := late.feed(t); return len(f.Events) > 0 })
			f := late.feed(t)
			if first := counted(t, &f)[0]; first != 2*each || len(f.Messages) > 0 || len(f.Gaps) > 0 {
				t.Errorf("the third page began with %+v", f)
			}
			third.count(t, 1)
			for _, source := range append(sources, late) {
				eventually(t, "all three see it change", func() bool { return last(source) == 2*each+1 })
			}

			// A reload of Caddy leaves the value, and the pages, as they are.
			s.reload(config("", stateSite))
			third.count(t, 1)
			for _, source := range append(sources, late) {
				eventually(t, "all three see it change", func() bool { return last(source) == 2*each+2 })
				if f := source.feed(t); f.Cuts > 0 {
					t.Errorf("a page was cut %d times", f.Cuts)
				}
			}
		})
	}
}

// reset removes the count.
func reset(t testing.TB, s *server) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+s.plain+"/live/count", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := plainClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
}

// TestAValueGoesWithThePageThatItIsBoundTo: the value is bound to a stream of the
// page.
func TestAValueGoesWithThePageThatItIsBoundTo(t *testing.T) {
	t.Parallel()
	s := start(t, config("", stateSite))
	site := "http://" + s.plain
	watcher := newPage(t, site+"/page").follow(t, "/live/here/**", "here/ada")
	eventually(t, "the watcher's stream opens", func() bool { f := watcher.feed(t); return len(f.Openings) == 1 })
	p := newPage(t, site+"/page")
	eval[bool](t, p, `(() => {
		const source = new EventSource("/live/room");
		source.addEventListener("evstream.open", e => {
			const session = JSON.parse(e.data).session;
			fetch("/live/here/ada?session=" + session, {method: "PUT", body: "true"});
		});
		return true;
	})()`)
	told := func(want string) func() bool {
		return func() bool {
			f := watcher.feed(t)
			return len(f.Events) > 0 && f.Events[len(f.Events)-1].Data == want
		}
	}
	eventually(t, "the watcher sees the value", told(`{"value":true}`))
	if err := chromedp.Cancel(p.ctx); err != nil { // closes the tab
		t.Fatal(err)
	}
	eventually(t, "the watcher sees it go", told(`{"deleted":true}`))
}
