package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
)

// Report writes what a command has found: as JSON, or by print for people. It returns
// failed, which the report has told already, where that is not nil.
func Report(cmd *cobra.Command, asJSON bool, report any, print func(io.Writer, term.Painter) error, failed error) error {
	out := cmd.OutOrStdout()
	var err error
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = print(out, term.Paint(out))
	}
	if err == nil && failed != nil {
		cmd.SilenceErrors = true // the report says so
		return failed
	}
	return err
}
