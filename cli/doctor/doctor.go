// Package doctor is "caddy evstream doctor": it looks at a live hub through its public
// URL, and says what to change in which proxy.
package doctor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli"
	"github.com/evstream/caddy-evstream/cli/internal/term"
)

// errProblems is the error where something is wrong; the report says what.
var errProblems = errors.New("there are problems")

// Command is "caddy evstream doctor".
func Command() *cobra.Command {
	var c Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor <url> [--channel <name>] [--origin <origin>] [--token <token>] [--idle <duration>] [--json]",
		Short: "Looks at a live hub through its public URL, and says what to change in which proxy",
		Long: `
Subscribes, publishes and reconnects as pages do, through all that stands between them
and the hub, and finds what goes wrong there: buffering, compression, cuts of quiet
streams, CORS, the version of HTTP, a lost Last-Event-ID, held-back request bodies,
clocks, the certificate, redirects, and nodes that do not share a log.

The URL is that of the handler, such as https://example.com/live/, or of a channel. It
publishes to a channel that nobody else has, unless --channel names one. Where it may not
publish it only reads, and says what it could not look at. Of streams that are not
evstream it looks at what every stream shows.

The exit status is 0 if there is no problem, 1 if there is one, and 2 if nothing could be
looked at. Each check is explained at
https://github.com/evstream/caddy-evstream/blob/main/docs/doctor.md
`,
		Example: `  caddy evstream doctor https://example.com/live/ --origin https://app.example
  EVSTREAM_TOKEN=… caddy evstream doctor https://example.com/live/ --idle 0 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Usage(errors.New("doctor takes one URL, such as https://example.com/live/"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.URL = args[0]
			if c.Token == "" {
				c.Token = os.Getenv(cli.TokenEnv)
			}
			if err := c.check(); err != nil {
				return cli.Usage(err)
			}
			cmd.SilenceUsage = true
			report, err := Examine(cmd.Context(), c, progressOf(cmd.ErrOrStderr(), c.Idle, asJSON))
			if err != nil {
				return cli.Usage(err)
			}
			var failed error
			if report.Problems > 0 {
				failed = errProblems
			}
			return cli.Report(cmd, asJSON, report, report.print, failed)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Usage(err) })
	f := cmd.Flags()
	f.StringVar(&c.Token, "token", "", "The `token` to send. Other users of this machine see it: the environment variable "+cli.TokenEnv+" is better")
	f.StringVar(&c.Channel, "channel", "", "The `name` of the channel to publish to and to read; what is published is nothing its readers need. Default: a random one")
	f.StringVar(&c.Origin, "origin", "", "The `origin` of pages that are to read, such as https://app.example")
	f.StringVar(&c.CACert, "cacert", "", cli.CACertUsage)
	f.DurationVar(&c.Idle, "idle", 75*time.Second, "How long to watch a quiet stream; 0: not at all")
	f.DurationVar(&c.Timeout, "timeout", 10*time.Second, "How long to wait for an answer")
	f.DurationVar(&c.Late, "late", 3*time.Second, "After what time without an event it is held back")
	f.BoolVar(&asJSON, "json", false, "Write the report as JSON")
	return cmd
}

// check refuses what cannot be meant.
func (c *Config) check() error {
	switch {
	case c.Idle < 0 || c.Idle > 24*time.Hour:
		return fmt.Errorf("--idle is 0 to 24h, not %s", c.Idle)
	case c.Timeout < 100*time.Millisecond || c.Timeout > 10*time.Minute:
		return fmt.Errorf("--timeout is 100ms to 10m, not %s", c.Timeout)
	case c.Late < 100*time.Millisecond || c.Late > 30*time.Second:
		return fmt.Errorf("--late is 100ms to 30s, not %s", c.Late)
	}
	return nil
}

// progressOf returns a function that says what is going on, on a terminal.
func progressOf(w io.Writer, idle time.Duration, quiet bool) func(string) {
	if quiet || !term.IsTerminal(w) {
		return func(string) {}
	}
	return func(what string) {
		if what == "" {
			_, _ = fmt.Fprint(w, "\r\x1b[K")
			return
		}
		if what == watching {
			what = fmt.Sprintf("%s, until %s (--idle %s)", what, time.Now().Add(idle).Format(time.TimeOnly), idle)
		}
		_, _ = fmt.Fprintf(w, "\r\x1b[K%s …", what)
	}
}

// watching is the last part of an examination, and the longest.
const watching = "watching a quiet stream"
