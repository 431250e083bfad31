package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
	"github.com/evstream/caddy-evstream/client"
)

// eventFlags are the flags that say what an event is.
type eventFlags struct {
	event, id, key string
	retry          time.Duration
	to, except     []string
}

// add adds the flags to a command.
func (e *eventFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&e.event, "event", "e", "", "The `name` of the event")
	f.StringVar(&e.id, "id", "", "An `id` of your own, which clients see")
	f.DurationVar(&e.retry, "retry", 0, "Asks clients to wait that long when they reconnect")
	f.StringArrayVar(&e.to, "to", nil, "Who gets it, a `reader`: user:alice, session:<id> or claim:role=admin; may be repeated")
	f.StringArrayVar(&e.except, "except", nil, "Who does not get it, a `reader`; may be repeated")
	f.StringVar(&e.key, "key", "", "An idempotency `key`: with the same one it is published once")
}

// publication is the event without its data.
func (e *eventFlags) publication(channel string) (client.Publication, error) {
	if e.retry < 0 {
		return client.Publication{}, misused("--retry is not negative")
	}
	return client.Publication{Channel: channel, Type: e.event, ID: e.id, Key: e.key, Retry: e.retry, To: e.to, Except: e.except}, nil
}

// publishCommand is "caddy evstream publish".
func publishCommand() *cobra.Command {
	var (
		h               hubFlags
		e               eventFlags
		lined, verbatim bool
	)
	cmd := &cobra.Command{
		Use:   "publish <channel> [<data>]",
		Short: "Publishes an event, or one for each line of its input",
		Long: `
Publishes data to a channel, and prints the id that the event got. The data is the last
argument, or comes from the standard input. The channel need not be there yet; a name that
ends in / reaches all channels beneath it.

If the hub cannot be reached it is tried three times, and published once. If it is not
known whether it was published, the error says so, and has a key: with --key and that, the
same command can be given again for five minutes.
`,
		Example: `  caddy evstream publish match.7 '{"home":2}' --event score
  date | caddy evstream publish clock
  tail -f app.log | caddy evstream publish logs/app --lines`,
		Args: exactly("<channel>", "[<data>]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := e.publication(args[0])
			if err != nil {
				return err
			}
			if lined {
				if len(args) > 1 && args[1] != "-" || e.key != "" || e.id != "" {
					return misused("with --lines the data comes from the standard input, and --key and --id would be those of each line")
				}
			} else if p.Data, err = input(cmd, args, "data", verbatim); err != nil {
				return err
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				if lined {
					// ^C ends the input; what was read is published. A second one does not wait.
					reading, stop := signal.NotifyContext(ctx, os.Interrupt)
					defer stop()
					context.AfterFunc(reading, stop)
					done, err := c.PublishLines(ctx, lines(reading, cmd, p))
					return h.publishedLines(cmd, done, err)
				}
				done, err := c.Publish(ctx, p)
				return h.published(cmd, done, err)
			})
		},
	}
	h.add(cmd)
	e.add(cmd)
	cmd.Flags().BoolVarP(&lined, "lines", "l", false, "Publishes each line of the standard input as it comes")
	cmd.Flags().BoolVar(&verbatim, "verbatim", false, "Keeps the line end at the end of the standard input")
	cmd.MarkFlagsMutuallyExclusive("lines", "verbatim")
	return cmd
}

// publishedDoc is what was published, in JSON.
type publishedDoc struct {
	Published *int   `json:"published,omitempty"`
	ID        string `json:"id"`
	Replayed  bool   `json:"replayed,omitempty"`
}

// published prints the id of what was published.
func (h *hubFlags) published(cmd *cobra.Command, done client.Published, err error) error {
	if unknown, ok := errors.AsType[*client.UnknownError](err); ok && unknown.Key != "" {
		return fmt.Errorf("%w; --key %s tries it again", err, unknown.Key)
	}
	if err != nil {
		return err
	}
	if h.json {
		return term.JSON(cmd.OutOrStdout(), publishedDoc{nil, done.ID, done.Replayed})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), done.ID)
	return err
}

// publishedLines prints how many lines were published, also where there is an error.
func (h *hubFlags) publishedLines(cmd *cobra.Command, done client.Published, failed error) error {
	if _, unknown := errors.AsType[*client.UnknownError](failed); unknown {
		return failed
	}
	var err error
	switch {
	case h.json:
		err = term.JSON(cmd.OutOrStdout(), publishedDoc{&done.Count, done.ID, false})
	case done.Count == 0:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "0 events")
	default:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, up to %s\n", plural(done.Count, "event"), done.ID)
	}
	return errors.Join(failed, err)
}

// plural is a number of things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
