package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
	"github.com/evstream/caddy-evstream/client"
)

// stateCommand is "caddy evstream state".
func stateCommand() *cobra.Command {
	cmd := Group("state", "Reads and writes the values of channels")
	cmd.AddCommand(stateGet(), stateSet(), statePatch(), stateAdd(), stateDelete(), stateWatch())
	return cmd
}

// stateDoc is a value in JSON.
type stateDoc struct {
	Channel string          `json:"channel"`
	Value   json.RawMessage `json:"value,omitempty"`
	Version string          `json:"version,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`
}

func stateGet() *cobra.Command {
	var h hubFlags
	cmd := &cobra.Command{
		Use:     "get <channel>",
		Short:   "Prints the value of a channel",
		Long:    "\nPrints the value of a channel as JSON. The status is 1 if it has none.\n",
		Example: `  caddy evstream state get user-count`,
		Args:    exactly("<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				v, err := c.Value(ctx, args[0])
				if client.Kind(err) == client.KindNoState {
					return fmt.Errorf("channel %q has no value", args[0])
				}
				if err != nil {
					return err
				}
				return h.value(cmd, args[0], v)
			})
		},
	}
	h.add(cmd)
	return cmd
}

// value prints a value.
func (h *hubFlags) value(cmd *cobra.Command, channel string, v client.Value) error {
	if h.json {
		return term.JSON(cmd.OutOrStdout(), stateDoc{channel, v.JSON, v.Version, v.JSON == nil})
	}
	text := "# no value"
	if v.JSON != nil {
		text = string(v.JSON)
		if term.IsTerminal(cmd.OutOrStdout()) {
			text = term.Clean(text)
		}
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// writeFlags are the flags of a write.
type writeFlags struct{ client.Write }

func (w *writeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.IfVersion, "if-version", "", "Only if the value has that `version`; * if there is a value")
	f.StringVar(&w.Key, "key", "", "An idempotency `key`: with the same one it is done once")
}

func (w *writeFlags) addSession(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.Session, "session", "", "Removes the value when the session of that `id` ends")
}

// wrote prints the version that a write has made.
func (h *hubFlags) wrote(cmd *cobra.Command, channel, version string, err error) error {
	if unknown, ok := errors.AsType[*client.UnknownError](err); ok && unknown.Key != "" {
		return fmt.Errorf("%w; --key %s tries it again", err, unknown.Key)
	}
	if err != nil {
		return err
	}
	if h.json {
		return term.JSON(cmd.OutOrStdout(), stateDoc{Channel: channel, Version: version})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), version)
	return err
}

func stateSet() *cobra.Command {
	var (
		h    hubFlags
		w    writeFlags
		text bool
	)
	cmd := &cobra.Command{
		Use:   "set <channel> [<json>]",
		Short: "Sets the value of a channel",
		Long: `
Sets the value of a channel to the JSON that is the last argument, or comes from the
standard input, and prints its version. Subscribers are told if it has changed.
`,
		Example: `  caddy evstream state set match.7 '{"home":0,"away":0}'
  caddy evstream state set title 'Full time' --string
  caddy evstream state set lock '"mine"' --if-absent`,
		Args: exactly("<channel>", "[<json>]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := input(cmd, args, "value", false)
			if err != nil {
				return err
			}
			if text {
				if value, err = json.Marshal(string(value)); err != nil {
					return Usage(err)
				}
			} else if err := isJSON(value, "value", "; --string takes text as it is"); err != nil {
				return err
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				version, err := c.SetValue(ctx, args[0], json.RawMessage(value), w.Write)
				return h.wrote(cmd, args[0], version, err)
			})
		},
	}
	h.add(cmd)
	w.add(cmd)
	w.addSession(cmd)
	cmd.Flags().BoolVar(&w.IfAbsent, "if-absent", false, "Only if there is no value yet")
	cmd.Flags().BoolVarP(&text, "string", "s", false, "Takes the value for text, and not for JSON")
	cmd.MarkFlagsMutuallyExclusive("if-absent", "if-version")
	return cmd
}

// isJSON refuses what is not JSON before it is sent.
func isJSON(text []byte, what, hint string) error {
	var v json.RawMessage
	if err := json.Unmarshal(text, &v); err != nil {
		return misused("the %s is not JSON: %w%s", what, err, hint)
	}
	return nil
}

func statePatch() *cobra.Command {
	var (
		h hubFlags
		w writeFlags
	)
	cmd := &cobra.Command{
		Use:   "patch <channel> [<json>]",
		Short: "Changes the value of a channel",
		Long: `
Changes the value of a channel as it is when that is done: by a merge patch (RFC 7396),
which is an object, or by a JSON patch (RFC 6902), which is an array of operations. The
patch is the last argument, or comes from the standard input. It prints the new version.
`,
		Example: `  caddy evstream state patch match.7 '{"home":1}'
  caddy evstream state patch match.7 '[{"op":"add","path":"/goals/-","value":"ada"}]'`,
		Args: exactly("<channel>", "[<json>]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			patch, err := input(cmd, args, "patch", false)
			if err == nil {
				err = isJSON(patch, "patch", "")
			}
			if err != nil {
				return err
			}
			kind := client.MergePatch
			if strings.HasPrefix(strings.TrimSpace(string(patch)), "[") {
				kind = client.JSONPatch
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				version, err := c.PatchValue(ctx, args[0], kind, json.RawMessage(patch), w.Write)
				return h.wrote(cmd, args[0], version, err)
			})
		},
	}
	h.add(cmd)
	w.add(cmd)
	w.addSession(cmd)
	return cmd
}

func stateAdd() *cobra.Command {
	var (
		h hubFlags
		w writeFlags
	)
	cmd := &cobra.Command{
		Use:   "add <channel> <number>",
		Short: "Adds a number to the value of a channel",
		Long: `
Adds a number to the value of a channel, which is a number too, or 0 if there is none, and
prints the sum. It is exact, and no addition is lost. A negative number comes after --.
`,
		Example: `  caddy evstream state add user-count 1
  caddy evstream state add user-count -- -1`,
		Args: exactly("<channel>", "<number>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				sum, err := c.AddToValue(ctx, args[0], json.Number(args[1]), w.Write)
				if err != nil {
					return h.wrote(cmd, args[0], "", err)
				}
				return h.value(cmd, args[0], sum)
			})
		},
	}
	h.add(cmd)
	w.add(cmd)
	w.addSession(cmd)
	return cmd
}

func stateDelete() *cobra.Command {
	var (
		h hubFlags
		w writeFlags
	)
	cmd := &cobra.Command{
		Use:     "delete <channel>",
		Short:   "Removes the value of a channel",
		Long:    "\nRemoves the value of a channel. The status is 1 if it has none.\n",
		Example: `  caddy evstream state delete user-count`,
		Args:    exactly("<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				if err := c.DeleteValue(ctx, args[0], w.Write); err != nil || !h.json {
					return err
				}
				return term.JSON(cmd.OutOrStdout(), stateDoc{Channel: args[0], Deleted: true})
			})
		},
	}
	h.add(cmd)
	w.add(cmd)
	return cmd
}

func stateWatch() *cobra.Command {
	var (
		h     hubFlags
		count int
	)
	cmd := &cobra.Command{
		Use:   "watch <channel>",
		Short: "Prints the value of a channel, and each newer one",
		Long: `
Prints the value of a channel, and then each newer one, with patches applied. It ends with
status 0 when the channel is closed, and after --count values.
`,
		Example: `  caddy evstream state watch user-count`,
		Args:    exactly("<channel>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return misused("--count is not negative")
			}
			return h.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				n := 0
				for v, err := range c.Watch(ctx, args[0], client.SubscribeOptions{MustConnect: true}) {
					if err != nil {
						return err
					}
					if err := h.value(cmd, args[0], v); err != nil {
						return err
					}
					if n++; n == count {
						break
					}
				}
				return nil
			})
		},
	}
	h.add(cmd)
	cmd.Flags().IntVarP(&count, "count", "c", 0, "Ends after `n` values")
	return cmd
}
