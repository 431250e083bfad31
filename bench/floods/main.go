//go:build linux

// Command floods measures what floods over HTTP/2 cost Caddy: with streams that are detached,
// whose connections are parked when a flood begins, beside streams that are attached, which is
// as Caddy is without evstream.
//
//	go run ./bench/floods
//
// Each flood goes over several connections at once, each of which has a stream already. What
// is told of a connection is the time of the CPU, the bytes that come back, and by how much the
// resident memory was higher at the worst moment than before. Both Caddys run all the time, and
// take turns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/process"
)

// settings are what is measured.
type settings struct {
	connections, runs int
	caddy             string
	only              *regexp.Regexp
}

func main() {
	var s settings
	flag.IntVar(&s.connections, "connections", 20, "connections that flood at once")
	flag.IntVar(&s.runs, "runs", 3, "runs of each")
	flag.StringVar(&s.caddy, "caddy", "", "a Caddy with evstream; by default it is built from ./cmd/caddy")
	only := flag.String("floods", ".", "which floods, as a regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if s.only, err = regexp.Compile(*only); err == nil {
		err = measure(ctx, &s)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "floods:", err)
		os.Exit(1)
	}
}

var deliveries = []string{"attached", "auto"}

func measure(ctx context.Context, s *settings) (err error) {
	if s.connections < 1 || s.runs < 1 {
		return errors.New("-connections and -runs are 1 or more")
	}
	dir, err := os.MkdirTemp("", "floods")
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
	servers := map[string]*server{}
	for _, delivery := range deliveries {
		server, err := start(ctx, s.caddy, filepath.Join(dir, delivery), delivery)
		if err != nil {
			return err
		}
		defer server.Stop()
		servers[delivery] = server
		for range 3 { // what is made once
			if _, err := floods[0].run(server, s.connections); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%d connections at once, %d runs; of a connection, the median: attached, detached\n", s.connections, s.runs)
	fmt.Println("| | frames | CPU ms | | ratio | µs a frame | | KB back | | KB resident at most | | ends with | |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, f := range floods {
		if !s.only.MatchString(f.name) {
			continue
		}
		costs := map[string][]cost{}
		for run := range s.runs {
			order := slices.Clone(deliveries)
			if run%2 == 1 {
				slices.Reverse(order)
			}
			for _, delivery := range order {
				c, err := f.run(servers[delivery], s.connections)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", f.name, delivery, err)
				}
				costs[delivery] = append(costs[delivery], c)
			}
		}
		report(f, costs[deliveries[0]], costs[deliveries[1]])
	}
	return nil
}

func report(f flood, attached, detached []cost) {
	median := func(costs []cost, of func(cost) float64) float64 {
		var all []float64
		for _, c := range costs {
			all = append(all, of(c))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	ms := func(c cost) float64 { return float64(c.cpu) / float64(time.Millisecond) }
	kb := func(c cost) float64 { return c.back / 1000 }
	resident := func(c cost) float64 { return c.resident / 1000 }
	ends := func(costs []cost) string {
		var all []string
		for _, c := range costs {
			all = append(all, c.ends...)
		}
		slices.Sort(all)
		return strings.Join(slices.Compact(all), ", ")
	}
	one, other, frames := median(attached, ms), median(detached, ms), float64(f.frames)
	fmt.Printf("| %s | %d | %.2f | %.2f | %.2f | %.2f | %.2f | %.1f | %.1f | %.0f | %.0f | %s | %s |\n", f.name, f.frames,
		one, other, other/one, 1000*one/frames, 1000*other/frames, median(attached, kb), median(detached, kb),
		median(attached, resident), median(detached, resident), ends(attached), ends(detached))
}
