// Package bench is "caddy evstream bench": it loads any server of event streams with
// subscribers, and measures.
package bench

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli"
)

// errFailed is the error where something was lost or refused; the report says what.
var errFailed = errors.New("something was lost, closed or refused")

// Command is "caddy evstream bench".
func Command() *cobra.Command {
	var c Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench <url> [--publish <url>] [--subscribers <n>] [--rate <n>] [--duration <duration>] [--json]",
		Short: "Loads any server of event streams with subscribers, and measures delays and losses",
		Long: `
Opens many streams of a URL, each on a connection of its own over HTTP/1.1, and measures.
With --publish it also publishes events there, each with a number and the time, and tells
how long they take to arrive, and how many do not. Without it only listens, and tells how
many events come, and how long it is from one to the next. The server need not be evstream.

A delay begins when the event was to be published by the rate, also if the server made
the publisher wait (no coordinated omission), and ends when it was read. Both are on the
clock of this machine. How much this program computes, and how late it is itself, is part
of the report. Nothing of it grows with the number of events.

The exit status is 0, 1 if something was lost, closed or refused, and 2 if no stream
began. It is meant for servers of your own: it is a load.
`,
		Example: `  caddy evstream bench http://localhost:8080/live/bench --publish http://localhost:8080/live/bench --subscribers 1000 --rate 50
  caddy evstream bench https://example.com/events --subscribers 100 --duration 1m --json
  caddy evstream bench http://localhost:3000/sub?ch=a --publish http://localhost:3000/pub --header 'Content-Type: application/json' --body '{"ch":"a","data":"{payload}"}'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Usage(errors.New("bench takes one URL, such as http://localhost:8080/live/bench"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.URL = args[0]
			if c.Token == "" {
				c.Token = os.Getenv(cli.TokenEnv)
			}
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			context.AfterFunc(ctx, stop) // a second ^C does not wait
			progress, wipe := bar(cmd.ErrOrStderr())
			report, err := Run(ctx, c, progress)
			wipe()
			if err != nil {
				return cli.Usage(err)
			}
			var failed error
			if report.failed() {
				failed = errFailed
			}
			return cli.Report(cmd, asJSON, report, report.print, failed)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Usage(err) })
	f := cmd.Flags()
	f.IntVarP(&c.Subscribers, "subscribers", "n", 100, "How many streams to open")
	f.DurationVarP(&c.Duration, "duration", "d", 10*time.Second, "How long to measure")
	f.DurationVar(&c.Warmup, "warmup", time.Second, "How long before that to publish and listen already")
	f.StringVar(&c.Publish, "publish", "", "The `url` to publish to, with POST")
	f.Float64Var(&c.Rate, "rate", 10, "How many events a second to publish; 0: back to back")
	f.IntVar(&c.Publishers, "publishers", 1, "How many requests to publish may be under way at a time, up to 16")
	f.IntVar(&c.Size, "size", 100, "How many bytes of data an event has")
	f.StringVar(&c.Body, "body", payloadMark, "What to publish, a `text` with {payload} in it")
	f.StringArrayVar(&c.Header, "header", nil, "A `line` for the header of all requests; may be repeated. Content-Type is text/plain if none is given")
	f.StringVar(&c.Token, "token", "", "The bearer `token` to send. Other users of this machine see it: the environment variable "+cli.TokenEnv+" is better")
	f.StringVar(&c.CACert, "cacert", "", cli.CACertUsage)
	f.IntVar(&c.Connects, "connects", 50, "How many connections to make at a time")
	f.DurationVar(&c.Timeout, "timeout", 10*time.Second, "How long a stream may take to begin")
	f.BoolVar(&asJSON, "json", false, "Write the report as JSON")
	return cmd
}
