// Command console measures what the operator's page costs a browser while its hub works:
// thousands of streams, and thousands of events a second, all of which the live tail reads.
//
//	go run ./bench/console
//
// Each view is driven in Chromium, which must be installed, at a wide and a narrow size, light
// and dark. The browser shares its cores with the hub and the load, so that any page loses
// frames: a blank page in another tab counts its own in the same seconds.
//
// A frame is dropped where the time between two frames has room for one more. The rest is
// of the page's main thread: what part of its time it computes, for what, and how often it
// lays the page out. Of two figures the second is that of the blank page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/process"
)

// settings are what is measured.
type settings struct {
	sessions, rate int
	duration       time.Duration
	runs           int
	caddy          string
	shots, profile string
	views          string
}

func main() {
	var s settings
	flag.IntVar(&s.sessions, "sessions", 5000, "streams that are open, each of a channel of its own")
	flag.IntVar(&s.rate, "rate", 2000, "events a second, to these channels in turn")
	flag.DurationVar(&s.duration, "t", 5*time.Second, "how long each page is measured")
	flag.IntVar(&s.runs, "runs", 2, "runs of each")
	flag.StringVar(&s.caddy, "caddy", "", "a Caddy with evstream; by default it is built from ./cmd/caddy")
	flag.StringVar(&s.views, "views", "overview,channels,tail", "the views to drive")
	flag.StringVar(&s.shots, "shots", "", "a directory for a screenshot of each page")
	flag.StringVar(&s.profile, "profile", "", "a directory for a CPU profile of each page, for the DevTools")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx, &s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "console:", err)
		os.Exit(1)
	}
}

// sizes are those of the windows.
var sizes = [...][2]int64{{1280, 800}, {390, 844}}

func measure(ctx context.Context, s *settings) (err error) {
	if s.sessions < 1 || s.rate < 1 || s.runs < 1 || s.duration < time.Second {
		return errors.New("-sessions, -rate and -runs are 1 or more, -t is 1s or more")
	}
	dir, err := os.MkdirTemp("", "console")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if s.caddy == "" {
		s.caddy = filepath.Join(dir, "caddy")
		if err := process.Build(ctx, s.caddy); err != nil {
			return err
		}
	}
	address, end, err := startCaddy(ctx, s.caddy, dir)
	if err != nil {
		return err
	}
	defer end()
	l, err := startLoad(ctx, address, s.sessions, s.rate)
	if err != nil {
		return err
	}
	defer l.close()
	b, err := openBrowser(ctx, dir, "http://localhost"+address[strings.LastIndexByte(address, ':'):])
	if err != nil {
		return err
	}
	defer b.close()

	views := strings.Split(s.views, ",")
	fmt.Printf("%d sessions, %d events a second, %s a page\n", s.sessions, s.rate, s.duration)
	fmt.Println("| page | size | run | dropped | blank page | p99 of frames | main thread | script | style and layout | layouts a second | nodes | published, delivered a second |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
	sums := make(map[string]*figures)
	for run := range s.runs {
		for _, size := range sizes {
			for _, scheme := range []string{"light", "dark"} {
				for i := range views {
					view := views[(i+run)%len(views)]
					name := fmt.Sprintf("%s-%d-%s", view, size[0], scheme)
					f, err := l.during(func() (*figures, error) { return b.drive(ctx, s, "http://"+address, view, name, size, scheme) })
					if err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
					fmt.Printf("| %s | %d %s | %d %s\n", view, size[0], scheme, run+1, f)
					if sums[view] == nil {
						sums[view] = new(figures)
					}
					sums[view].add(f)
				}
			}
		}
	}
	for _, view := range views {
		fmt.Printf("| **%s** | all | all %s\n", view, sums[view])
	}
	return l.check()
}
