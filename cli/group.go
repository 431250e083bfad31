package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// Group is a command that only has subcommands.
func Group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name + " <command>",
		Short: short,
		Args:  cobra.ArbitraryArgs,
		// Whatever flags follow: the subcommand is what is wrong.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return Unknown(cmd, args[0])
		},
	}
}

// Unknown is the error of a subcommand that a command does not have. It names the one
// that may be meant.
func Unknown(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		return misused("unknown command %q of %s; did you mean %s?", name, cmd.CommandPath(), strings.Join(like, " or "))
	}
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	return misused("unknown command %q of %s; there is: %s", name, cmd.CommandPath(), strings.Join(names, ", "))
}
