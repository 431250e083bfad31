package main

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// openChromium starts a Chromium whose tabs are devices.
func openChromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path, err := installed("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
	if err != nil {
		t.Fatal(err)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(30 * time.Second)}
	for _, name := range []string{
		"headless", "no-sandbox", "disable-gpu", "no-first-run", "no-default-browser-check",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage",
		"disable-background-timer-throttling", "disable-renderer-backgrounding", "disable-backgrounding-occluded-windows",
	} {
		options = append(options, chromedp.Flag(name, true))
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	ctx, _ := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	return ctx
}

// device is somebody's browser: it shares no cookies, no cache and no connection with
// another.
type device struct {
	ctx context.Context
}

func newDevice(t *testing.T, chromium context.Context, url string) *device {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	d := &device{ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	do(t, d, chromedp.Navigate(url))
	return d
}

func do[T any](t *testing.T, d *device, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, 20*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// await evaluates an expression that is a promise, and waits for it.
func await[T any](t *testing.T, d *device, expression string) T {
	t.Helper()
	return do(t, d, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func eval[T any](t *testing.T, d *device, expression string) T {
	t.Helper()
	return do(t, d, chromedp.Evaluate[T](expression))
}
