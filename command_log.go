package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/boltadapter"
)

// The commands for a log that adapter bolt keeps on the disk.

// compactCommand is "caddy evstream compact".
func compactCommand() *cobra.Command {
	var address, config, adapter, name string
	cmd := &cobra.Command{
		Use:   "compact [--broker <name>] [--address <host:port> | --config <path> [--adapter <name>]]",
		Short: "Gives the disk back what the log of a running Caddy does not use",
		Long: `
Has the running Caddy write the file of values anew, without what it does not use any
more. Publishing goes on meanwhile. Caddy does the same by itself when it starts and
more than half of the file is unused.
`,
		Example: "  caddy evstream compact",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			admin, err := caddycmd.DetermineAdminAPIAddress(address, nil, config, adapter)
			if err != nil {
				return err
			}
			answer, err := caddycmd.AdminAPIRequest(admin, http.MethodPost, compactPath+"?broker="+url.QueryEscape(name), nil, nil)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			var sizes compaction
			if err := json.NewDecoder(answer.Body).Decode(&sizes); err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The file of values had %s, and has %s.\n", size(sizes.Before), size(sizes.After))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "broker", defaultBroker, "The broker")
	f.StringVar(&address, "address", "", "The address of Caddy's admin endpoint; by default that of the configuration")
	f.StringVarP(&config, "config", "c", "", "The configuration that names the admin endpoint")
	f.StringVarP(&adapter, "adapter", "a", "", "The configuration's adapter, such as caddyfile")
	cmd.MarkFlagsMutuallyExclusive("address", "config")
	return cmd
}

// restoreCommand is "caddy evstream restore".
func restoreCommand() *cobra.Command {
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

// logCommand is "caddy evstream log".
func logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Tools for a log on the disk",
	}
	knownOnly(cmd)
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
			dir := logDirectory(defaultBroker)
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

// logDirectory is where a broker's log is, unless a path is configured.
func logDirectory(name string) string {
	return filepath.Join(caddy.AppDataDir(), "evstream", name)
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
