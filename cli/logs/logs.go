// Package logs is what can be done with a log on the disk that no Caddy uses: "caddy
// evstream restore" and "log check".
package logs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/boltadapter"
	"github.com/evstream/caddy-evstream/cli"
)

// Restore is "caddy evstream restore".
func Restore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore <backup> <directory>",
		Short: "Makes a log of a backup",
		Long: `
Reads a backup that the admin endpoint has made, from a file or with - from the standard
input, checks it, and makes a log of it in a directory, which must be empty or not be
there. If anything is wrong with the backup, nothing is left in the directory.

Clients that come back with an id from before the restore are told that there is a gap.
`,
		Example: `  curl -sSf -o chat.tar http://localhost:2019/evstream/_backup
  caddy evstream restore chat.tar /var/lib/caddy/.local/share/caddy/evstream/default`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("restore needs a backup and a directory, and got %d arguments: caddy evstream restore <backup> <directory>", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				in = file
			}
			report, err := boltadapter.Restore(in, args[1])
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), &report)
		},
	}
}

// Command is "caddy evstream log". directory is where the log of a broker is.
func Command(directory func(broker string) string) *cobra.Command {
	cmd := cli.Group("log", "Tools for a log on the disk")
	cmd.AddCommand(&cobra.Command{
		Use:   "check [<directory>]",
		Short: "Reads every byte of a log, and says what is damaged",
		Long: `
Reads every byte of the log in a directory, by default that of the broker "default", and
changes nothing. The log must not be in use by a running Caddy: check a backup of that,
made of it by restore. The exit status is 0 if nothing is damaged, else 1.
`,
		Example: "  caddy evstream log check /var/lib/caddy/.local/share/caddy/evstream/default",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := directory("default")
			if len(args) == 1 {
				dir = args[0]
			}
			report, err := boltadapter.Check(dir)
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), &report)
		},
	})
	return cmd
}

// printReport says what a log has.
func printReport(w io.Writer, r *boltadapter.Report) error {
	_, err := fmt.Fprintf(w, "%s: %s in %s, %s; %s; the newest id is %s.\n",
		r.Path, plural(r.Entries, "event"), plural(r.Segments, "file"), size(r.Bytes), plural(r.Values, "value"), r.Last)
	for _, t := range r.Torn {
		_, more := fmt.Fprintf(w, "%s: %s from byte %d on were being written when the process or the machine stopped; Caddy removes them when it starts.\n", t.Path, size(t.Size), t.From)
		err = errors.Join(err, more)
	}
	return err
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", humanize.Comma(int64(n)), what)
}
