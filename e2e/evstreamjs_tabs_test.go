package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestALeaderThatHasNotHeardTheLastOneOutTellsNothingTwice has a busy tab be given the lock
// before it hears what the leader said at last, which the other tab has heard.
func TestALeaderThatHasNotHeardTheLastOneOutTellsNothingTwice(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	publish := func(data ...string) {
		t.Helper()
		for _, d := range data {
			write(t, "POST", "http://"+s.plain+"/live/flow", "", d)
		}
	}
	var tabs []*livePage
	for range 3 {
		tab := &livePage{newPage(t, "http://"+s.plain+"/page"), t}
		// While held is a list messages wait in it, until the next lock is given.
		tab.do(`
			const { set } = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, 'onmessage');
			Object.defineProperty(BroadcastChannel.prototype, 'onmessage', { set(f) {
				set.call(this, (e) => window.held ? held.push(() => f(e)) : f(e));
			} });
			const request = navigator.locks.request.bind(navigator.locks);
			navigator.locks.request = (name, f) => request(name, (lock) => {
				const until = f(lock);
				for (const hear of window.held ?? []) hear();
				window.held = undefined;
				return until;
			})`)
		tab.connect("{}")
		tab.do("live.on('flow', event)")
		tab.opens()
		tabs = append(tabs, tab)
	}
	publish("1")
	for _, tab := range tabs {
		tab.gets("1")
	}
	tabs[1].do("window.held = []")
	publish("2", "3")
	tabs[0].gets("1", "2", "3")
	tabs[2].gets("1", "2", "3")
	eventually(t, "messages in the queue", func() bool { return eval[int](t, tabs[1].page, "held.length") == 2 })
	if err := chromedp.Cancel(tabs[0].ctx); err != nil { // closes it
		t.Fatal(err)
	}
	eventually(t, "another leader", func() bool { return eval[bool](t, tabs[1].page, "!window.held") })
	publish("4")
	tabs[1].gets("1", "2", "3", "4")
	tabs[2].gets("1", "2", "3", "4")
	connections(s, 1)
}

// TestTabsAreToldEverythingOnceInAnyOrderOfSteps plays evstream.js in tabs that come, publish
// and crash while messages, locks and streams go on in any order.
func TestTabsAreToldEverythingOnceInAnyOrderOfSteps(t *testing.T) {
	t.Parallel()
	s := start(t, liveSite(""))
	p := newPage(t, "http://"+s.plain+"/page")
	world, err := os.ReadFile("testdata/tabs.js")
	if err != nil {
		t.Fatal(err)
	}
	eval[bool](t, p, string(world)+"; true")
	for _, order := range []struct {
		name  string
		local bool
	}{{"one order of messages", false}, {"a short way within a process", true}} {
		t.Run(order.name, func(t *testing.T) {
			const runs, each = 100, 10
			for seed := 0; seed < runs; seed += each {
				faults := await[[]string](t, p, fmt.Sprintf(`(async () => {
					const { connect } = await import('/live/_client.js'), faults = [];
					for (let seed = %d; seed < %d; seed++) {
						for (const fault of await tabs(connect, seed, %t)) faults.push('seed ' + seed + ': ' + fault);
						await new Promise((done) => setTimeout(done)); // pages of other tests may share this one's thread
					}
					return faults;
				})()`, seed, seed+each, order.local))
				if len(faults) > 0 {
					t.Fatalf("%d faults, such as %q", len(faults), slices.Clip(faults[:min(len(faults), 10)]))
				}
			}
		})
	}
}
