//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/credentials"
)

// baselineCommand makes this binary serve the baseline.
const baselineCommand = "baseline"

// caddyPackage is the Caddy of this working copy.
const caddyPackage = "github.com/evstream/caddy-evstream/cmd/caddy"

// The defaults of what is measured.
const (
	defaultTargets     = "evstream,evstream-attached," + baselineName
	defaultRuns        = 5
	defaultDuration    = 1500 * time.Millisecond
	defaultSubscribers = 1000
	defaultConnections = 10_000
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	var err error
	if len(os.Args) > 1 && os.Args[1] == baselineCommand {
		err = baselineMain(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// baselineMain serves the baseline. The arguments are an address, an address for
// TLS, the files of certificate and key, and then those of handlerOf.
func baselineMain(ctx context.Context, args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("%s takes 4 arguments or more, not %d", baselineCommand, len(args))
	}
	handler, err := handlerOf(ctx, args[4:])
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	plain, err := listen.Listen(ctx, "tcp", args[0])
	if err != nil {
		return err
	}
	secure, err := listen.Listen(ctx, "tcp", args[1])
	if err != nil {
		return err
	}
	return serve(ctx, handler, plain, secure, &credentials.Credentials{CertFile: args[2], KeyFile: args[3]})
}

// order is the parsed command line.
type order struct {
	settings
	scenarios []*scenario
	targets   []target
	runs      int
	json      string
	caddy     string
	note      string // a warning about the command line
}

// parse reads the command line.
func (w *workshop) parse(args []string, output io.Writer) (*order, error) {
	o := new(order)
	var names []string
	for i := range scenarios {
		names = append(names, scenarios[i].name)
	}
	all := w.targets()
	var known []string
	for _, t := range all {
		known = append(known, t.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	chosen := flags.String("scenarios", strings.Join(names, ","), "what to measure")
	against := flags.String("targets", defaultTargets, "what to measure it on: "+strings.Join(known, ", "))
	flags.IntVar(&o.runs, "runs", defaultRuns, "runs of each scenario on each target")
	flags.DurationVar(&o.duration, "t", defaultDuration, "how long a measurement takes")
	flags.IntVar(&o.subscribers, "subscribers", defaultSubscribers, "subscribers that read")
	flags.IntVar(&o.connections, "connections", defaultConnections, "idle connections of the scenario memory")
	flags.StringVar(&o.json, "json", "", "a file for all figures")
	flags.StringVar(&o.profiles, "profile", "", "a directory for CPU profiles of evstream, one for each measurement of the last run; -t has to be 1s or more")
	flags.StringVar(&o.caddy, "caddy", "", "a Caddy with evstream to measure; by default it is built from ./cmd/caddy")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.runs < 1 || o.subscribers < 2 || o.connections < 1 || o.duration < 10*time.Millisecond || o.duration > 30*time.Second {
		return nil, errors.New("at least one run, two subscribers and one connection are needed, and -t is 10ms to 30s")
	}
	if o.profiles != "" && o.duration < time.Second {
		return nil, errors.New("a profile takes a second or more: -t is too short")
	}
	for name := range strings.SplitSeq(*chosen, ",") {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(names, ", "))
		}
		o.scenarios = append(o.scenarios, &scenarios[i])
	}
	for name := range strings.SplitSeq(*against, ",") {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("there is no target %q; there are %s", name, strings.Join(known, ", "))
		}
		o.targets = append(o.targets, all[i])
	}
	return o, o.bound()
}

// bound reduces the load to the files that the system allows each process.
func (o *order) bound() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("asking for the limit of open files: %w", err)
	}
	const others = 100
	most := int(min(limit.Cur, 1<<20)) - others
	shared := slices.IndexFunc(o.scenarios, func(s *scenario) bool { return !s.multiplexed }) < 0
	if o.subscribers > most && !shared {
		return fmt.Errorf("%d subscribers need a higher limit of open files (ulimit -n) than %d", o.subscribers, limit.Cur)
	}
	headed := slices.ContainsFunc(o.scenarios, func(s *scenario) bool { return s.name == headOfLineName })
	if crowd := crowdOf(o.settings); headed && crowd > most {
		return fmt.Errorf("%s: %d subscribers need a higher limit of open files (ulimit -n) than %d", headOfLineName, crowd, limit.Cur)
	}
	if o.connections > most {
		o.note = fmt.Sprintf("ulimit -n allows %d connections, not %d", most, o.connections)
		o.connections = most
	}
	return nil
}

// run executes the command line. It writes results to out, and what it is doing to
// progress.
func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	runtime.LockOSThread() // a server ends with the thread that has started it
	defer runtime.UnlockOSThread()
	w := new(workshop)
	o, err := w.parse(args, progress)
	if err != nil {
		return err
	}
	if w.dir, err = os.MkdirTemp("", "evstream-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return err
		}
	}
	if err := w.equip(ctx, o, progress); err != nil {
		return err
	}

	report := report{Machine: describe(), Command: strings.Join(append([]string{"bench"}, args...), " ")}
	if report.Revision, err = revision(w.caddy); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n%s\n%s\nmedians of %d runs of %v, with the range\n",
		report.Machine, report.Revision, report.Command, o.runs, o.duration)
	if o.note != "" {
		fmt.Fprintln(out, "!", o.note)
	}
	if !w.cores.apart {
		fmt.Fprintln(out, "! there is one core: the server shares it with the load")
	}
	for _, s := range o.scenarios {
		r, err := w.measureAll(ctx, s, o, progress)
		if err != nil {
			return err
		}
		if err := r.print(out); err != nil {
			return err
		}
		report.Scenarios = append(report.Scenarios, *r)
	}
	if o.json != "" {
		return report.save(o.json)
	}
	return nil
}

// equip makes a workshop, and moves this process to the cores of the load.
func (w *workshop) equip(ctx context.Context, o *order, progress io.Writer) (err error) {
	if w.itself, err = os.Executable(); err != nil {
		return err
	}
	if w.Credentials, err = credentials.New(w.dir); err != nil {
		return err
	}
	if w.caddy, err = filepath.Abs(o.caddy); err != nil {
		return err
	}
	if o.caddy == "" {
		w.caddy = filepath.Join(w.dir, "caddy")
		fmt.Fprintln(progress, "building Caddy")
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-o", w.caddy, caddyPackage) //nolint:gosec // into a directory of ours
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building Caddy: %w\n%s", err, output)
		}
	}
	if w.cores, err = share(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(w.cores.loads + 1) // one is the generator's thread
	return w.cores.confine()
}

// measureAll runs a scenario on all targets in turn, as often as is asked for.
func (w *workshop) measureAll(ctx context.Context, s *scenario, o *order, progress io.Writer) (*result, error) {
	targets := slices.DeleteFunc(slices.Clone(o.targets), func(t target) bool { return s.secure && t.plainOnly })
	r := &result{Scenario: s.name, About: s.about(o.settings), Figures: s.figures, Base: baselineName}
	if s.own != nil {
		targets, r.Base = s.own(w), s.base
	}
	for _, t := range targets {
		r.Targets = append(r.Targets, row{Target: t.name})
	}
	usages := make([][]usage, len(targets))
	for i := range o.runs {
		for k := range targets {
			k = (k + i) % len(targets)
			fmt.Fprintf(progress, "%s, run %d of %d: %s\n", s.name, i+1, o.runs, targets[k].name)
			figures, used, err := w.try(ctx, s, targets[k], o.settings)
			if err != nil {
				return nil, fmt.Errorf("%s on %s, run %d: %w", s.name, targets[k].name, i+1, err)
			}
			r.Targets[k].Runs = append(r.Targets[k].Runs, figures)
			usages[k] = append(usages[k], used...)
		}
	}
	for k := range targets {
		r.Targets[k].Warnings = warnings(usages[k])
	}
	return r, nil
}

// revision is the revision that a binary was built from.
func revision(binary string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", binary, err)
	}
	revision, modified := "unknown", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			modified = ", modified"
		}
	}
	return "evstream, revision " + revision + modified, nil
}
