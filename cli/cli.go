// Package cli has the commands that speak to a hub, for "caddy evstream": each of them
// is a client of package client, of the hub at a URL.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/client"
)

// Commands are the commands, for a command "evstream" of any program. Status says what
// their errors mean.
func Commands() []*cobra.Command {
	list := []*cobra.Command{
		publishCommand(), subscribeCommand(), stateCommand(), channelsCommand(), presenceCommand(),
		sessionsCommand(), sessionEnd("caddy evstream end"), closeCommand(), purgeCommand(),
	}
	for _, cmd := range list {
		prepare(cmd)
	}
	return list
}

// negative is the error of a number that is taken for a flag.
var negative = regexp.MustCompile(`^unknown shorthand flag: '[0-9.]'`)

// prepare makes what is wrong with the flags of a command a usage error, and that of its
// subcommands.
func prepare(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if negative.MatchString(err.Error()) {
			err = fmt.Errorf("%w; a number below zero comes after --", err)
		}
		return Usage(err)
	})
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, list []string) error {
		if err := args(cmd, list); err != nil {
			return Usage(err)
		}
		return Usage(cmd.ValidateFlagGroups())
	}
	for _, sub := range cmd.Commands() {
		prepare(sub)
	}
}

// The exit statuses of the commands.
const (
	StatusFailed = 1 // the hub refuses it or is out of reach, or the answer is no
	StatusUsage  = 2 // it was not called as it has to be; nothing was sent
)

// Status is the exit status of the error of a command.
func Status(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return StatusUsage
	}
	return StatusFailed
}

// usageError says that a command was not called as it has to be.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// ExitCode is the exit status of a program that ends with the error.
func (e *usageError) ExitCode() int { return StatusUsage }

// Usage makes err, which may be nil, one with the status StatusUsage.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// misused is a usage error.
func misused(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// defaultAdmin is where Caddy's admin endpoint is, unless CADDY_ADMIN says otherwise.
const defaultAdmin = "localhost:2019"

// TokenEnv is the environment variable that has the token.
const TokenEnv = "EVSTREAM_TOKEN" //nolint:gosec // the name of a variable

// hubFlags are the flags that name a hub and a credential.
type hubFlags struct {
	url, token, tokenFile, broker, caCert string
	json                                  bool
}

// add adds the flags to a command.
func (h *hubFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&h.url, "url", "", "The `URL` of the hub, such as https://example.com/live; else $EVSTREAM_URL, else Caddy's admin endpoint on this host")
	f.StringVar(&h.token, "token", "", "The `token`, or the secret of a bearer; else $EVSTREAM_TOKEN. Other users of this host can see it here")
	f.StringVar(&h.tokenFile, "token-file", "", "The `file` that has the token")
	f.StringVar(&h.caCert, "cacert", "", CACertUsage)
	f.StringVar(&h.broker, "broker", "", "The `name` of the broker, at the admin endpoint")
	f.BoolVar(&h.json, "json", false, "Prints JSON, one document a line")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	h.completes(cmd)
}

// address is the URL of the hub. Without one it is that of the admin endpoint, where no
// token is needed, and which may be a socket.
func (h *hubFlags) address() (mount, socket string, admin bool, err error) {
	mount = h.url
	if mount == "" {
		mount = os.Getenv("EVSTREAM_URL")
	}
	if admin = mount == ""; admin {
		address := os.Getenv("CADDY_ADMIN")
		if address == "" {
			address = defaultAdmin
		}
		if path, ok := unixSocket(address); ok {
			socket, address = path, "127.0.0.1" // which Caddy takes for its own name
		} else if host, port, err := net.SplitHostPort(strings.TrimPrefix(address, "tcp/")); err != nil || strings.Contains(host, "/") {
			return "", "", false, misused("CADDY_ADMIN is %q, and not a host and a port or unix/ and the path of a socket, such as unix//run/caddy.sock: name the hub with --url or EVSTREAM_URL", address)
		} else if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("localhost", port)
		} else {
			address = net.JoinHostPort(host, port)
		}
		mount = "http://" + address + "/evstream"
	}
	if h.broker != "" {
		u, err := url.Parse(mount)
		if err != nil {
			return "", "", false, misused("the URL of the hub: %w", errors.Unwrap(err))
		}
		q := u.Query()
		q.Set("broker", h.broker)
		u.RawQuery = q.Encode()
		mount = u.String()
	}
	return mount, socket, admin, nil
}

// credential is the token of the flags and the environment, "" for none.
func (h *hubFlags) credential() (string, error) {
	switch {
	case h.token != "":
		return h.token, nil
	case h.tokenFile != "":
		text, err := os.ReadFile(h.tokenFile)
		if err != nil {
			return "", Usage(err)
		}
		token := strings.TrimSpace(string(text))
		if token == "" {
			return "", misused("the file %s has no token", h.tokenFile)
		}
		return token, nil
	}
	return os.Getenv(TokenEnv), nil
}

// connection is a client of a hub that a command speaks to.
type connection struct {
	*client.Client
	transport *http.Transport // its own, nil for that of the client
	url       string
	admin     bool // it is the admin endpoint, because no URL was given
	token     bool // a token is sent
}

// connect makes the client. It sends nothing.
func (h *hubFlags) connect(o client.Options) (*connection, error) {
	mount, socket, admin, err := h.address()
	if err != nil {
		return nil, err
	}
	roots, err := Roots(h.caCert)
	if err != nil {
		return nil, Usage(err)
	}
	transport := newTransport(socket, roots)
	if transport != nil {
		o.HTTP = &http.Client{Transport: transport}
	}
	token, err := h.credential()
	if err != nil {
		return nil, err
	}
	if token != "" && (!admin || h.token != "" || h.tokenFile != "") { // not what the environment has for another hub
		o.Credential = client.Token(token)
	}
	c, err := client.New(mount, o)
	if err != nil {
		return nil, Usage(err)
	}
	return &connection{c, transport, mount, admin, o.Credential != nil}, nil
}

// Close closes the connections that no request uses.
func (c *connection) Close() {
	c.Client.Close()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// run connects, does something, and says what an error of the hub means.
func (h *hubFlags) run(ctx context.Context, do func(context.Context, *connection) error) error {
	c, err := h.connect(client.Options{Attempts: 3, Timeout: 15 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.explain(do(ctx, c))
}

// explain adds to an error what can be done about it.
func (c *connection) explain(err error) error {
	if err == nil {
		return nil
	}
	e, answered := errors.AsType[*client.Error](err)
	switch {
	case (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)) && c.admin:
		return fmt.Errorf("%w: no Caddy runs here, or its admin endpoint is elsewhere; --url or EVSTREAM_URL names another hub", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens at %s", err, redacted(c.url))
	case answered && e.Kind == "unauthorized" && !c.token:
		return fmt.Errorf("%w; a token is given by EVSTREAM_TOKEN or --token-file", err)
	case answered && e.Kind == "" && c.admin:
		return fmt.Errorf("%w; the Caddy that runs there may have no evstream handler, or no module evstream", err)
	case answered && e.Kind == "":
		return fmt.Errorf("%w; %s must be the mount of a handler: where its configuration has \"evstream /live/*\", the URL ends in /live", err, redacted(c.url))
	}
	return err
}

// redacted is a URL without its password.
func redacted(mount string) string {
	u, err := url.Parse(mount)
	if err != nil {
		return "the URL"
	}
	return u.Redacted()
}

// exactly takes arguments of those names; one in brackets may be left out.
func exactly(names ...string) cobra.PositionalArgs {
	least := 0
	for _, name := range names {
		if !strings.HasPrefix(name, "[") {
			least++
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= len(names) {
			return nil
		}
		return misused("%s takes %s, and got %d arguments", cmd.CommandPath(), strings.Join(names, " and "), len(args))
	}
}
