package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/css"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/profiler"
	"github.com/chromedp/chromedp"
)

// browser is a Chromium.
type browser struct {
	ctx   context.Context
	end   []context.CancelFunc
	blank context.Context // a tab with a blank page, which is there all the time
}

func (b *browser) close() {
	if b.ctx != nil {
		_ = chromedp.Cancel(b.ctx)
	}
	for _, end := range slices.Backward(b.end) {
		end()
	}
}

// openBrowser starts Chromium, with a blank page of a site.
func openBrowser(ctx context.Context, dir, site string) (*browser, error) {
	var path string
	var err error
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("there is no Chromium: %w", err)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "chromium")), chromedp.WSURLReadTimeout(time.Minute)}
	for _, name := range []string{
		"headless", "no-sandbox", "disable-gpu", "no-first-run", "no-default-browser-check", "disable-background-networking",
		"disable-component-update", "disable-sync", "disable-dev-shm-usage",
		"disable-background-timer-throttling", "disable-renderer-backgrounding", "disable-backgrounding-occluded-windows",
	} {
		options = append(options, chromedp.Flag(name, true))
	}
	b := new(browser)
	allocator, end := chromedp.NewExecAllocator(ctx, options...)
	b.end = append(b.end, end)
	b.ctx, end = chromedp.NewContext(allocator)
	b.end = append(b.end, end)
	if err = chromedp.Do(b.ctx); err == nil {
		b.blank, end = chromedp.NewContext(b.ctx)
		b.end = append(b.end, end)
		err = chromedp.Do(b.blank, chromedp.Navigate(site+"/blank"))
	}
	if err == nil {
		err = startMeter(b.blank)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// figures are those of one page, or of all of a view.
type figures struct {
	gaps, beside         []float64 // milliseconds between two frames, and between those of the blank page
	seconds              float64
	task, script, layout float64 // seconds of the main thread
	besideTask           float64
	layouts, nodes       float64
	published, delivered float64 // a second
	sums                 int
}

func (f *figures) add(g *figures) {
	f.gaps, f.beside = append(f.gaps, g.gaps...), append(f.beside, g.beside...)
	f.seconds += g.seconds
	f.task += g.task
	f.besideTask += g.besideTask
	f.script += g.script
	f.layout += g.layout
	f.layouts += g.layouts
	f.nodes = max(f.nodes, g.nodes)
	f.published += g.published
	f.delivered += g.delivered
	f.sums++
}

// frame is how long one is shown, in milliseconds.
const frame = 1000.0 / 60

// dropped is how many frames more there was time for.
func dropped(gaps []float64) (n int) {
	for _, gap := range gaps {
		n += max(int(gap/frame+0.5)-1, 0)
	}
	return n
}

func (f *figures) String() string {
	p99 := func(gaps []float64) float64 { return slices.Sorted(slices.Values(gaps))[len(gaps)*99/100] }
	per := func(v float64) string { return fmt.Sprintf("%.1f %%", v/f.seconds*100) }
	n := float64(max(f.sums, 1))
	return fmt.Sprintf("| %d of %d | %d of %d | %.0f, %.0f ms | %s, %s | %s | %s | %.1f | %.0f | %.0f, %.0f |",
		dropped(f.gaps), dropped(f.gaps)+len(f.gaps), dropped(f.beside), dropped(f.beside)+len(f.beside), p99(f.gaps), p99(f.beside),
		per(f.task), per(f.besideTask), per(f.script), per(f.layout), f.layouts/f.seconds, f.nodes, f.published/n, f.delivered/n)
}

// meter has a page measure the time between its frames.
const meter = `(() => {
	window.frameGaps = [];
	let last = 0;
	const tick = (now) => {
		if (last) frameGaps.push(now - last);
		last = now;
		requestAnimationFrame(tick);
	};
	requestAnimationFrame(tick);
	return true;
})()`

// ready are what is true once a view is at work, and begin how it begins.
var (
	ready = map[string]string{
		"overview": `document.getElementById("cards").textContent.match(/Delivered \/ s[1-9]/) !== null`,
		"channels": `document.querySelectorAll("#channels-table tr").length > 50`,
		"tail":     `document.getElementById("tail-list").textContent.includes("load/")`,
	}
	begin = map[string]string{"tail": `(document.getElementById("tail-form").requestSubmit(), true)`}
)

// drive measures one page, in a tab of its own.
func (b *browser) drive(ctx context.Context, s *settings, site, view, name string, size [2]int64, scheme string) (*figures, error) {
	tab, end := chromedp.NewContext(b.ctx)
	defer end()
	stop := context.AfterFunc(ctx, end)
	defer stop()
	if ready[view] == "" {
		return nil, fmt.Errorf("there is no view %q to drive; there are overview, channels and tail", view)
	}
	// What the DevTools are told of the network and the elements costs the page more than
	// what it does itself, and nobody is told it who only looks at it.
	for _, domain := range []cdp.Command[cdp.Empty, cdp.Empty]{network.Disable, css.Disable, dom.Disable} {
		if _, err := chromedp.Call(tab, domain, cdp.Empty{}); err != nil {
			return nil, err
		}
	}
	if err := chromedp.Do(tab, chromedp.EmulateViewport(size[0], size[1]), chromedp.Navigate(site+"/live/_console#"+view)); err != nil {
		return nil, err
	}
	first := fmt.Sprintf("(theme.set(%q), true)", scheme)
	if script := begin[view]; script != "" {
		first += " && " + script
	}
	if _, err := chromedp.Run(tab, chromedp.Evaluate[bool](first)); err != nil {
		return nil, err
	}
	if err := eventually(tab, view); err != nil {
		return nil, err
	}
	if s.profile != "" {
		if _, err := chromedp.Call(tab, profiler.Enable, cdp.Empty{}); err != nil {
			return nil, err
		}
		if _, err := chromedp.Call(tab, profiler.Start, cdp.Empty{}); err != nil {
			return nil, err
		}
	}
	if err := startMeter(tab); err != nil {
		return nil, err
	}
	before, err := counters(tab)
	if err != nil {
		return nil, err
	}
	besideBefore, err := counters(b.blank)
	if err != nil {
		return nil, err
	}
	if _, err := chromedp.Run(b.blank, chromedp.Evaluate[bool]("(frameGaps = [], true)")); err != nil {
		return nil, err
	}
	begun := time.Now()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.duration):
	}
	f := &figures{seconds: time.Since(begun).Seconds()}
	if f.gaps, err = chromedp.Run(tab, chromedp.Evaluate[[]float64]("frameGaps")); err != nil {
		return nil, err
	}
	if f.beside, err = chromedp.Run(b.blank, chromedp.Evaluate[[]float64]("frameGaps")); err != nil {
		return nil, err
	}
	after, err := counters(tab)
	if err != nil {
		return nil, err
	}
	besideAfter, err := counters(b.blank)
	if err != nil {
		return nil, err
	}
	if len(f.gaps) == 0 || len(f.beside) == 0 {
		return nil, fmt.Errorf("no frame was drawn in %s", s.duration)
	}
	since := func(name string) float64 { return after[name] - before[name] }
	f.nodes, f.layouts = after["Nodes"], since("LayoutCount")
	f.task, f.script, f.layout = since("TaskDuration"), since("ScriptDuration"), since("LayoutDuration")+since("RecalcStyleDuration")
	f.besideTask = besideAfter["TaskDuration"] - besideBefore["TaskDuration"]
	return f, b.keep(tab, s, name)
}

// startMeter has a page measure its frames, and Chromium the time of its main thread.
func startMeter(tab context.Context) error {
	if _, err := chromedp.Call(tab, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks}); err != nil {
		return err
	}
	_, err := chromedp.Run(tab, chromedp.Evaluate[bool](meter))
	return err
}

// keep writes what is asked for of a page.
func (b *browser) keep(tab context.Context, s *settings, name string) error {
	if s.profile != "" {
		r, err := chromedp.Call(tab, profiler.Stop, cdp.Empty{})
		if err != nil {
			return err
		}
		text, err := json.Marshal(r.Profile)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.profile, name+".cpuprofile"), text, 0o600); err != nil {
			return err
		}
	}
	if s.shots == "" {
		return nil
	}
	picture, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.shots, name+".png"), picture, 0o600)
}

// eventually waits until a view is at work.
func eventually(tab context.Context, view string) error {
	for range 300 {
		ok, err := chromedp.Run(tab, chromedp.Evaluate[bool](ready[view]))
		if err != nil || ok {
			return err
		}
		select {
		case <-tab.Done():
			return tab.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	text, err := chromedp.Run(tab, chromedp.Evaluate[string]("document.body.innerText"))
	return fmt.Errorf("the view does not show what it is to: %w\n%s", err, strings.Join(strings.Fields(text), " "))
}

// counters are what Chromium counts of a page.
func counters(tab context.Context) (map[string]float64, error) {
	r, err := chromedp.Call(tab, performance.GetMetrics, cdp.Empty{})
	if err != nil {
		return nil, err
	}
	all := make(map[string]float64)
	for _, m := range r.Metrics {
		all[m.Name] = m.Value
	}
	return all, nil
}
