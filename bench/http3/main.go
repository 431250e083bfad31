//go:build linux

// Command http3 measures what a stream over HTTP/3 costs: memory a connection that has
// one idle stream, beside a Caddy handler that writes a header and waits, in the same
// run; and the CPU of a delivery.
//
//	go run ./bench/http3
//
// The readers are in this process, Caddy in another. Heap and stacks are read after a
// collection, the resident memory before it. The datagrams are those of both, and of
// whatever else the machine does: fewer than two for each delivery mean that several events
// went in one, which costs less and comes later.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// settings are what is measured.
type settings struct {
	connections, runs, rate int
	duration                time.Duration
	targets                 []string
	profiles, cpuProfiles   string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveCommand {
		fmt.Fprintln(os.Stderr, "http3:", serve(os.Args[2]))
		os.Exit(1)
	}
	var s settings
	flag.IntVar(&s.connections, "connections", 1000, "connections with a stream each")
	flag.IntVar(&s.runs, "runs", 3, "runs of each target")
	flag.IntVar(&s.rate, "rate", 50, "events a second to all streams")
	flag.DurationVar(&s.duration, "t", 5*time.Second, "how long events are published; 0: only memory")
	targets := flag.String("targets", strings.Join(allTargets, ","), "what is measured: bare, or a value of the option delivery")
	flag.StringVar(&s.profiles, "profile", "", "a directory for heap profiles, with every allocation sampled, and for stacks")
	flag.StringVar(&s.cpuProfiles, "cpu-profile", "", "a directory for profiles of the CPU while events are published")
	flag.Parse()
	s.targets = strings.Split(*targets, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx, &s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "http3:", err)
		os.Exit(1)
	}
}

// bare is the target that is the handler beside evstream.
const bare = "bare"

var allTargets = []string{bare, "attached", "auto"}

func measure(ctx context.Context, s *settings) error {
	dir, err := os.MkdirTemp("", "http3")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%d connections with a stream each, then %d events a second for %s\n", s.connections, s.rate, s.duration)
	fmt.Println("| | KB a connection, resident | heap | stacks | goroutines | CPU µs an opening | µs a delivery | p50 ms | p99 ms | datagrams a delivery |\n|---|---|---|---|---|---|---|---|---|---|")
	for run := range s.runs {
		targets := slices.Clone(s.targets)
		if run%2 == 1 {
			slices.Reverse(targets)
		}
		for _, target := range targets {
			if err := s.one(ctx, dir, target); err != nil {
				return fmt.Errorf("%s: %w", target, err)
			}
		}
	}
	return nil
}

// one measures one target, with a Caddy of its own.
func (s *settings) one(ctx context.Context, dir, target string) error {
	server, err := start(ctx, dir, target, s.profiles != "")
	if err != nil {
		return err
	}
	defer server.Stop()
	warm, err := s.read(ctx, server, target, min(s.connections, 50))
	if err != nil {
		return err
	}
	warm.close()
	time.Sleep(time.Second) // Caddy notices
	empty, err := server.memory()
	if err != nil {
		return err
	}
	before := server.CPU()
	r, err := s.read(ctx, server, target, s.connections)
	if err != nil {
		return err
	}
	defer r.close()
	time.Sleep(3 * time.Second) // what beginning needed is over
	opened := server.CPU() - before
	full, err := server.memory()
	if err != nil {
		return err
	}
	n := float64(s.connections)
	fmt.Printf("| %s | %.1f | %.1f | %.1f | %.2f | %.0f |", target, (full.resident-empty.resident)/n/1000,
		(full.heap-empty.heap)/n/1000, (full.stacks-empty.stacks)/n/1000, (full.goroutines-empty.goroutines)/n, micros(opened)/n)
	if s.profiles != "" {
		if err := server.profile(s.profiles, target); err != nil {
			return err
		}
	}
	if target == bare || s.duration == 0 {
		fmt.Println(" | | | |")
		return nil
	}
	var profiled chan error
	if s.cpuProfiles != "" {
		profiled = make(chan error, 1)
		go func() { profiled <- server.cpuProfile(s.cpuProfiles, target, s.duration) }()
	}
	before, sent := server.CPU(), datagrams()
	events, err := s.publish(ctx, server)
	if err != nil {
		return err
	}
	if profiled != nil {
		if err := <-profiled; err != nil {
			return err
		}
	}
	if err := r.await(events); err != nil {
		return err
	}
	p50, p99 := r.lateness()
	deliveries := n * float64(events)
	fmt.Printf(" %.1f | %.1f | %.1f | %.2f |\n", micros(server.CPU()-before)/deliveries, p50, p99, (datagrams()-sent)/deliveries)
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
