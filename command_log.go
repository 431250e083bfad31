package evstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

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

// logDirectory is where a broker's log is, unless a path is configured.
func logDirectory(name string) string {
	return filepath.Join(caddy.AppDataDir(), "evstream", name)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
