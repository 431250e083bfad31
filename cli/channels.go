package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
	"github.com/evstream/caddy-evstream/client"
)

// channelsCommand is "caddy evstream channels".
func channelsCommand() *cobra.Command {
	var (
		h     hubFlags
		limit int
	)
	cmd := &cobra.Command{
		Use:   "channels [<prefix>]",
		Short: "Lists channels",
		Long: `
Lists the channels whose names begin with a prefix: how many read each of them by its name,
what its history has, and whether it has a value or is closed. Without admin rights it
lists those that the token may read.
`,
		Example: `  caddy evstream channels
  caddy evstream channels match. --json`,
		Args: exactly("[<prefix>]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return misused("--limit is not negative")
			}
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				columns := []string{"CHANNEL", "READERS", "EVENTS", "BYTES", "NEWEST", "VALUE", "CLOSED"}
				return list(cmd, &h, "channel", limit, columns, c.AllChannels(ctx, prefix), func(one *client.Channel) []string {
					return []string{
						one.Name, strconv.Itoa(one.Subscribers), strconv.Itoa(one.History.Events), strconv.Itoa(one.History.Bytes),
						since(one.History.Newest), yes(one.State != ""), yes(one.Closed != ""),
					}
				})
			})
		},
	}
	h.add(cmd)
	cmd.Flags().IntVarP(&limit, "limit", "n", 0, "At most `n` of them; 0 is all")
	return cmd
}

// list prints at most limit elements, or all for 0: as a table, or each in JSON. On the
// standard error it says how many there are, also where an error ends them.
func list[T any](cmd *cobra.Command, h *hubFlags, what string, limit int, columns []string, all iter.Seq2[T, error], cells func(*T) []string) error {
	var table *term.Table
	if !h.json {
		table = term.NewTable(cmd.OutOrStdout(), columns...)
	}
	n := 0
	var failed error
	for one, err := range all {
		if failed = err; err != nil {
			break
		}
		if h.json {
			if err := term.JSON(cmd.OutOrStdout(), one); err != nil {
				return err
			}
		} else {
			table.Row(cells(&one)...)
		}
		if n++; n == limit {
			break
		}
	}
	if h.json {
		return failed
	}
	if n > 0 {
		if err := table.Flush(); err != nil {
			return errors.Join(failed, err)
		}
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), "# "+plural(n, what))
	return errors.Join(failed, err)
}

// since is how long ago the event of an id was published, "" for no id.
func since(id string) string {
	ms, _, ok := strings.Cut(id, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil {
		return ""
	}
	return ago(time.UnixMilli(n))
}

// ago is how long ago something was, in its largest unit.
func ago(at time.Time) string {
	d := max(time.Since(at), 0)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

// closeCommand is "caddy evstream close".
func closeCommand() *cobra.Command {
	var (
		h hubFlags
		e eventFlags
	)
	cmd := &cobra.Command{
		Use:   "close <channel> [<data>]",
		Short: "Closes a channel, with a last event",
		Long: `
Closes a channel: its readers get what is left, and then the end. With data, or --event,
that is its last event. The data is the last argument, or with - the standard input. It is
open again when its history is purged or too old.
`,
		Example: `  caddy evstream close match.7 'Full time' --event whistle`,
		Args:    exactly("<channel>", "[<data>]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := e.publication(args[0])
			if err == nil && len(args) > 1 {
				p.Data, err = input(cmd, args, "data", false)
			}
			if err != nil {
				return err
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				done, err := c.CloseChannel(ctx, p)
				return h.published(cmd, done, err)
			})
		},
	}
	h.add(cmd)
	e.add(cmd)
	return cmd
}

// purgeCommand is "caddy evstream purge".
func purgeCommand() *cobra.Command {
	var h hubFlags
	cmd := &cobra.Command{
		Use:   "purge <channel>",
		Short: "Removes the history of a channel, and opens it if it is closed",
		Long: `
Removes the events that a channel keeps. Readers that have not got them yet are told that
there is a gap. The channel's value stays.
`,
		Example: `  caddy evstream purge match.7`,
		Args:    exactly("<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				done, err := c.PurgeHistory(ctx, args[0])
				return h.published(cmd, done, err)
			})
		},
	}
	h.add(cmd)
	return cmd
}

// presenceCommand is "caddy evstream presence".
func presenceCommand() *cobra.Command {
	var h hubFlags
	cmd := &cobra.Command{
		Use:   "presence <channel>",
		Short: "Says who is in a channel",
		Long: `
Says who is in a channel that has presence: its members, and how many streams without a
user read it. The option presence of a channel turns it on.
`,
		Example: `  caddy evstream presence chat/1`,
		Args:    exactly("<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				p, err := c.Presence(ctx, args[0], "", 1000)
				if err != nil {
					return err
				}
				for next := p.Next; next != "" && err == nil; {
					var more client.Presence
					more, err = c.Presence(ctx, args[0], next, 1000)
					p.Members, next = append(p.Members, more.Members...), more.Next
				}
				if err != nil {
					return err
				}
				return h.present(cmd, &p)
			})
		},
	}
	h.add(cmd)
	return cmd
}

// present prints who is in a channel.
func (h *hubFlags) present(cmd *cobra.Command, p *client.Presence) error {
	if p.Next = ""; h.json {
		return term.JSON(cmd.OutOrStdout(), p)
	}
	if len(p.Members) > 0 {
		t := term.NewTable(cmd.OutOrStdout(), "USER", "STREAMS", "SINCE", "METADATA")
		for _, m := range p.Members {
			t.Row(m.User, strconv.Itoa(m.Sessions), ago(m.Since), string(m.Meta))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("# %d present", p.Count)
	if p.Anonymous > 0 {
		text += fmt.Sprintf(", %d of them without a user", p.Anonymous)
	}
	if p.Members == nil && p.Count > p.Anonymous {
		text += "; there are too many members to name them"
	}
	if p.Partial {
		text += "; not all nodes have answered"
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), text)
	return err
}
