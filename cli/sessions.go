package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
	"github.com/evstream/caddy-evstream/client"
)

// sessionsCommand is "caddy evstream sessions".
func sessionsCommand() *cobra.Command {
	cmd := Group("sessions", "Lists sessions, and does something with one")
	cmd.AddCommand(sessionsList(), sessionShow(), sessionSend(), sessionJoin(), sessionLeave(), sessionEnd("caddy evstream sessions end"))
	return cmd
}

func sessionsList() *cobra.Command {
	var (
		h     hubFlags
		f     client.SessionFilter
		limit int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists sessions",
		Long: `
Lists the streams that are open: who reads them, from where, since when, how many events
each got, and how far it is behind.
`,
		Example: `  caddy evstream sessions list --channel 'match.*'
  caddy evstream sessions list --user alice --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return misused("--limit is not negative")
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				f.Limit = 1000
				columns := []string{"SESSION", "WHO", "ADDRESS", "SINCE", "PROTOCOL", "EVENTS", "LAG", "CHANNELS"}
				return list(cmd, &h, "session", limit, columns, c.AllSessions(ctx, f), func(one *client.Session) []string {
					return []string{one.ID, who(one), one.Address, ago(one.Since), one.Protocol, strconv.FormatUint(one.Events, 10), lag(one), reads(one, 60)}
				})
			})
		},
	}
	h.add(cmd)
	cmd.Flags().StringVar(&f.User, "user", "", "Those of that `user`")
	cmd.Flags().StringVar(&f.Channel, "channel", "", "Those that read that `channel`, or pattern")
	cmd.Flags().IntVarP(&limit, "limit", "n", 0, "At most `n` of them; 0 is all")
	return cmd
}

// who says whose session it is.
func who(s *client.Session) string {
	switch {
	case s.User != "":
		return s.User
	case s.Bearer != "":
		return "bearer " + s.Bearer
	}
	return ""
}

// lag says how far a session is behind.
func lag(s *client.Session) string {
	return (time.Duration(s.Lag) * time.Millisecond).String()
}

// reads lists the channels of a session, cut to a length of about limit; 0 is none.
func reads(s *client.Session, limit int) string {
	list := strings.Join(s.Channels, " ")
	more := s.Cut
	if limit > 0 && len(list) > limit {
		at := strings.LastIndexByte(list[:limit], ' ')
		if at < 0 {
			at = len(s.Channels[0])
		}
		more, list = more || at < len(list), list[:at]
	}
	if more {
		list += " …"
	}
	return list
}

func sessionShow() *cobra.Command {
	var h hubFlags
	cmd := &cobra.Command{
		Use:     "show <session>",
		Short:   "Describes a session",
		Long:    "\nDescribes the session of an id, which evstream.open has, and sessions list.\n",
		Example: `  caddy evstream sessions show MZ3HSEYrlgnGQgSZad0U_Q`,
		Args:    exactly("<session>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				s, err := c.Session(ctx, args[0])
				if err != nil {
					return err
				}
				if h.json {
					return term.JSON(cmd.OutOrStdout(), s)
				}
				for _, row := range [][2]string{
					{"session", s.ID},
					{"user", s.User},
					{"bearer", s.Bearer},
					{"address", s.Address},
					{"since", s.Since.Format(time.RFC3339) + ", " + ago(s.Since) + " ago"},
					{"protocol", s.Protocol},
					{"channels", reads(&s, 0)},
					{"joined", strings.Join(s.Joined, " ")},
					{"last event id", s.LastEventID},
					{"events", strconv.FormatUint(s.Events, 10)},
					{"lag", lag(&s)},
				} {
					if row[1] != "" {
						fmt.Fprintf(cmd.OutOrStdout(), "%-14s %s\n", row[0], term.Line(row[1]))
					}
				}
				return nil
			})
		},
	}
	h.add(cmd)
	return cmd
}

func sessionSend() *cobra.Command {
	var (
		h     hubFlags
		event string
		retry time.Duration
	)
	cmd := &cobra.Command{
		Use:   "send <session> [<data>]",
		Short: "Sends an event to one session",
		Long: `
Sends an event to one session. It is in no history: a client that is cut before it gets the
event does not get it any more. The data is the last argument, or comes from the standard
input.
`,
		Example: `  caddy evstream sessions send MZ3HSEYrlgnGQgSZad0U_Q 'for you alone' --event hint`,
		Args:    exactly("<session>", "[<data>]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := input(cmd, args, "data", false)
			if err == nil && retry < 0 {
				err = misused("--retry is not negative")
			}
			if err != nil {
				return err
			}
			return h.done(cmd, args[0], func(ctx context.Context, c *connection) error {
				return c.SendTo(ctx, args[0], client.Publication{Type: event, Data: data, Retry: retry})
			})
		},
	}
	h.add(cmd)
	cmd.Flags().StringVarP(&event, "event", "e", "", "The `name` of the event")
	cmd.Flags().DurationVar(&retry, "retry", 0, "Asks the client to wait that long when it reconnects")
	return cmd
}

// sessionDoc is what was done with a session, in JSON.
type sessionDoc struct {
	Session  string   `json:"session"`
	Channels []string `json:"channels,omitempty"`
}

// done does something with a session that has no answer.
func (h *hubFlags) done(cmd *cobra.Command, id string, do func(context.Context, *connection) error) error {
	return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
		if err := do(ctx, c); err != nil || !h.json {
			return err
		}
		return term.JSON(cmd.OutOrStdout(), sessionDoc{Session: id})
	})
}

// now prints what a session reads now.
func (h *hubFlags) now(cmd *cobra.Command, id string, channels []string) error {
	if h.json {
		return term.JSON(cmd.OutOrStdout(), sessionDoc{id, channels})
	}
	for _, name := range channels {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), term.Line(name)); err != nil {
			return err
		}
	}
	return nil
}

func sessionJoin() *cobra.Command {
	var (
		h hubFlags
		o client.SubscribeOptions
	)
	cmd := &cobra.Command{
		Use:   "join <session> <channel>",
		Short: "Has a session read a channel, too",
		Long: `
Has a session read a channel or a pattern, too, from now on. It prints all that the session
reads then.
`,
		Example: `  caddy evstream sessions join MZ3HSEYrlgnGQgSZad0U_Q rooms/1 --last 10`,
		Args:    exactly("<session>", "<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				channels, err := c.Join(ctx, args[0], args[1], o)
				if err != nil {
					return err
				}
				return h.now(cmd, args[0], channels)
			})
		},
	}
	h.add(cmd)
	f := cmd.Flags()
	f.IntVarP(&o.Last, "last", "n", 0, "Begins with the newest `n` events of the channel")
	f.StringVar(&o.Since, "since", "", "Begins at a `time`: earliest, 30s ago, or as 2026-01-31T12:00:00Z")
	f.StringVar(&o.LastEventID, "last-event-id", "", "Begins after the event of that `id`")
	cmd.MarkFlagsMutuallyExclusive("last", "since", "last-event-id")
	return cmd
}

func sessionLeave() *cobra.Command {
	var h hubFlags
	cmd := &cobra.Command{
		Use:   "leave <session> <channel>",
		Short: "Has a session read a channel no more",
		Long: `
Has a session read a channel or a pattern no more. It prints what the session reads still.
`,
		Example: `  caddy evstream sessions leave MZ3HSEYrlgnGQgSZad0U_Q rooms/1`,
		Args:    exactly("<session>", "<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				channels, err := c.Leave(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return h.now(cmd, args[0], channels)
			})
		},
	}
	h.add(cmd)
	return cmd
}

// sessionEnd is "caddy evstream end", and "sessions end"; path is which of both.
func sessionEnd(path string) *cobra.Command {
	var (
		h      hubFlags
		reason string
	)
	cmd := &cobra.Command{
		Use:     "end <session>",
		Short:   "Ends a session for good",
		Long:    "\nEnds a session: its client is not to come back, and is told the reason.\n",
		Example: "  " + path + " MZ3HSEYrlgnGQgSZad0U_Q --reason 'closing time'",
		Args:    exactly("<session>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.done(cmd, args[0], func(ctx context.Context, c *connection) error {
				return c.EndSession(ctx, args[0], reason)
			})
		},
	}
	h.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "What the client is told, a `text` of at most 255 bytes")
	return cmd
}
