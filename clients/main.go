// Clients runs event stream clients that others wrote, and proxies, against a
// Caddy with evstream: each must get every event once, in order and promptly, over
// cuts, and nothing that nobody published.
//
// `make clients` installs what is needed and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	caddy := flag.String("caddy", "../bin/caddy-clients", "the Caddy under test")
	modules := flag.String("modules", "../bin/clients/node_modules", "where npm has installed its clients")
	only := flag.String("run", ".", "a regular expression: which of front/client run")
	verbose := flag.Bool("v", false, "say what each client says")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *caddy, *modules, *only, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "clients: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, caddy, modules, only string, verbose bool) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "evstream-clients-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	modules, err = filepath.Abs(modules)
	if err != nil {
		return err
	}
	failed, ran := 0, 0
	for _, front := range fronts {
		var chosen []kind
		for _, k := range kinds() {
			if pattern.MatchString(front.name + "/" + k.name) {
				chosen = append(chosen, k)
			}
		}
		if len(chosen) == 0 {
			continue
		}
		began := time.Now()
		rounds, err := play(ctx, filepath.Join(dir, front.name), caddy, modules, front, chosen, verbose)
		if err != nil {
			return fmt.Errorf("%s: %w", front.name, err)
		}
		fmt.Printf("== %s (%.0f s)\n", front.name, time.Since(began).Seconds())
		for _, r := range rounds {
			ran++
			if len(r.faults) == 0 {
				fmt.Printf("  ok    %-22s %s\n", r.kind.name, r.summary())
				continue
			}
			failed++
			fmt.Printf("  FAIL  %-22s %s\n          %s\n", r.kind.name, r.summary(), strings.Join(r.faults, "\n          "))
		}
	}
	fmt.Printf("%d passed, %d failed\n", ran-failed, failed)
	switch {
	case ran == 0:
		return fmt.Errorf("nothing is named %s", only)
	case failed > 0:
		return fmt.Errorf("%d of %d clients fail", failed, ran)
	}
	return nil
}
