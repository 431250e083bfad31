package evstream

import (
	"errors"
	"fmt"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli"
)

// withStatus has a command and its subcommands end with the exit status that their errors
// have, if they have one: a method ExitCode. Caddy knows only 1 and errors of its own.
// Further arguments and flags that cannot be read are such errors, too.
func withStatus(cmd *cobra.Command) {
	args, run, flags := cmd.Args, cmd.RunE, cmd.FlagErrorFunc()
	cmd.Args = func(cmd *cobra.Command, list []string) error {
		if args == nil {
			return nil
		}
		return statusOf(cmd, args(cmd, list))
	}
	cmd.RunE = func(cmd *cobra.Command, list []string) error { return statusOf(cmd, run(cmd, list)) }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return statusOf(cmd, flags(cmd, err)) })
	for _, sub := range cmd.Commands() {
		withStatus(sub)
	}
}

// statusOf makes an error that Caddy ends with the same status of an error that has one,
// and says what it says.
func statusOf(cmd *cobra.Command, err error) error {
	coded, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err)
	if !ok || coded.ExitCode() <= 1 {
		return err
	}
	if !cmd.SilenceErrors {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Error:", err)
		if cli.Status(err) == cli.StatusUsage {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s --help has an example.\n", cmd.CommandPath())
		}
	}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return coded.ExitCode(), nil
	})(cmd, nil)
}
