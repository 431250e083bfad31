package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/cli"
	"github.com/evstream/caddy-evstream/cli/bench"
	"github.com/evstream/caddy-evstream/cli/doctor"
	"github.com/evstream/caddy-evstream/cli/logs"
	"github.com/evstream/caddy-evstream/cli/token"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "evstream",
		Usage: "<command>",
		Short: "Publishes and subscribes, looks at live hubs, and helps with the configuration of evstream handlers",
		Long: `
Speaks to a hub, which is the one of the Caddy that runs on this host unless --url or
EVSTREAM_URL names another, and helps with the configuration of evstream handlers.
https://github.com/evstream/caddy-evstream/tree/main/docs describes all of it.
`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Example = "  caddy evstream subscribe match.7\n  caddy evstream publish match.7 'Kick-off!'"
			cmd.AddCommand(cli.Commands()...)
			cmd.AddCommand(explainCommand(), token.Command(), compactCommand(), logs.Restore(), logs.Command(logDirectory))
			cmd.AddCommand(doctor.Command(), bench.Command())
			// A subcommand that there is not is an error, whatever flags follow.
			group := cli.Group(cmd.Name(), cmd.Short)
			cmd.Args, cmd.RunE, cmd.FParseErrWhitelist = group.Args, group.RunE, group.FParseErrWhitelist
			withStatus(cmd)
		},
	})
}

// errDenied is the error of explain where the answer is no: the exit status is 1.
var errDenied = errors.New("not allowed")

// question holds the flags of explainCommand.
type question struct {
	config, adapter, mount string
	user, bearer           string
	claims, matchers       []string
	do, channel            string
}

// explainCommand is "caddy evstream explain".
func explainCommand() *cobra.Command {
	var q question
	// A script that wants a denial must not take a slip of its own for one.
	untold := func(_ *cobra.Command, err error) error { return cli.Usage(err) }
	cmd := &cobra.Command{
		Use:   "explain --do <what> --channel <name> [--config <path> [--adapter <name>]] [--mount <path>] [--user <id>] [--claim <name>=<value>]... [--bearer <name>] [--matcher @<name>]...",
		Short: "Says who may do what, and which rule decides",
		Long: `
Reads a configuration, and says whether a caller may do something with a channel,
and for each rule why it allows that or not. It needs neither a running Caddy nor
secrets: the flags describe the caller, and --matcher names a matcher that matches
the request. A claim whose value is not JSON is a string. The exit status is 0 if it
is allowed, 1 if it is not, and 2 if it cannot be told.
`,
		Example: `  caddy evstream explain --config Caddyfile --user alice --do subscribe --channel users/bob/inbox
  curl -s localhost:2019/config/ | caddy evstream explain --config - --do publish --channel a   # the one that runs`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return untold(cmd, fmt.Errorf("caddy evstream explain takes flags only, such as --do subscribe --channel a, and not %q", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, _, _, err := caddycmd.LoadConfig(q.config, q.adapter)
			switch {
			case err != nil:
				return untold(cmd, err)
			case len(config) == 0 && q.config == "":
				return untold(cmd, errors.New("there is no configuration: this directory has no Caddyfile, and --config names none"))
			case len(config) == 0:
				return untold(cmd, fmt.Errorf("the configuration %s is empty", q.config))
			}
			err = q.answer(cmd.OutOrStdout(), config)
			if errors.Is(err, errDenied) {
				cmd.SilenceErrors = true // the explanation says so
				return err
			}
			return untold(cmd, err)
		},
	}
	cmd.SetFlagErrorFunc(untold)
	f := cmd.Flags()
	f.StringVarP(&q.config, "config", "c", "", "The `file` of the configuration, - for standard input; by default the Caddyfile of this directory")
	f.StringVarP(&q.adapter, "adapter", "a", "", "The `name` of the configuration's adapter, such as caddyfile")
	f.StringVar(&q.mount, "mount", "", "The mount of the handler, a `path`, required if there are several handlers")
	f.StringVar(&q.user, "user", "", "The `id` of the user that the caller is")
	f.StringVar(&q.bearer, "bearer", "", "The `name` of the bearer that the caller is")
	f.StringArrayVar(&q.claims, "claim", nil, "A claim of the caller, as `name=value`; may be repeated")
	f.StringArrayVar(&q.matchers, "matcher", nil, "A named matcher, `@name`, that matches the request; may be repeated")
	f.StringVar(&q.do, "do", "", "What is done, a `verb`: "+strings.Join(access.Verbs()[:len(access.Verbs())-1], ", "))
	f.StringVar(&q.channel, "channel", "", "The `name` of a channel, a pattern to subscribe to, or a name that ends in / to publish to")
	return cmd
}

// answer writes the explanation of the handler that the flags select. The error is
// errDenied where it is a denial.
func (q *question) answer(w io.Writer, config []byte) error {
	if q.channel == "" || q.do == "" {
		return errors.New("--do and --channel are required")
	}
	if q.do == "all" || !slices.Contains(access.Verbs(), q.do) {
		return fmt.Errorf("--do is one of %s, not %q", strings.Join(access.Verbs()[:len(access.Verbs())-1], ", "), q.do)
	}
	if err := q.checkChannel(); err != nil {
		return fmt.Errorf("--channel: %w", err)
	}
	handlers, err := handlersOf(config)
	if err != nil {
		return err
	}
	var mounts []string
	found := slices.DeleteFunc(slices.Clone(handlers), func(h *Handler) bool {
		mounts = append(mounts, h.Mount+"/")
		return q.mount != "" && h.Mount != strings.TrimSuffix(q.mount, "/")
	})
	switch {
	case len(handlers) == 0:
		return errors.New("the configuration has no evstream handler")
	case len(found) == 0:
		return fmt.Errorf("there is no handler with the mount %s; the mounts are: %s", q.mount, strings.Join(mounts, ", "))
	case len(found) > 1 && q.mount == "":
		return fmt.Errorf("there is more than one handler: select one with --mount; the mounts are: %s", strings.Join(mounts, ", "))
	}
	var denied error
	for _, h := range found {
		x, err := q.explain(h)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, x.String()); err != nil {
			return err
		}
		if !x.Decision.Allowed {
			denied = errDenied
		}
	}
	return denied
}

// checkChannel reports why no request could name the channel.
func (q *question) checkChannel() error {
	switch q.do {
	case access.Subscribe:
		_, err := channel.ParsePattern(q.channel)
		return err
	case access.Publish:
		return channel.CheckTarget(q.channel)
	}
	return channel.Check(q.channel)
}

// handlersOf finds the evstream handlers of a configuration, wherever they are.
func handlersOf(config []byte) ([]*Handler, error) {
	var value any
	if err := json.Unmarshal(config, &value); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var list []*Handler
	var walk func(v any) error
	walk = func(v any) error {
		switch v := v.(type) {
		case []any:
			for _, element := range v {
				if err := walk(element); err != nil {
					return err
				}
			}
		case map[string]any:
			if v["handler"] == "evstream" {
				delete(v, "handler")
				b, err := json.Marshal(v)
				if err != nil {
					return err
				}
				h := new(Handler)
				if err := caddy.StrictUnmarshalJSON(b, h); err != nil {
					return fmt.Errorf("reading an evstream handler: %w", err)
				}
				list = append(list, h)
				return nil
			}
			for _, member := range v {
				if err := walk(member); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := walk(value)
	return list, err
}

// explain applies the rules of one handler.
func (q *question) explain(h *Handler) (access.Explanation, error) {
	who, err := q.caller(h)
	if err != nil {
		return access.Explanation{}, err
	}
	known := make(map[string]bool)
	rules := make([]access.Rule, 0, len(h.Allow))
	for i := range h.Allow {
		r := h.Allow[i].rule()
		if strings.HasPrefix(r.Who, "@") {
			known[r.Who] = true
			r.Matcher = r.Who // the name identifies it in the explanation
			r.Match = func(*http.Request) bool { return false }
		}
		rules = append(rules, r)
	}
	c := h.authConfig()
	names := make(map[string]string, len(h.Bearers))
	for name := range h.Bearers {
		names[name] = name // secrets play no part
	}
	if err := auth.CheckBearers(names); err != nil {
		return access.Explanation{}, err
	}
	p, err := access.NewPolicy(rules, c.BearerNames(), c.Any())
	if err != nil {
		return access.Explanation{}, err
	}
	who.Matched = make(map[string]bool)
	for _, name := range q.matchers {
		if !known[name] {
			return access.Explanation{}, fmt.Errorf("no rule has the matcher %q", name)
		}
		who.Matched[name] = true
	}
	return p.Explain(who, q.do, q.channel), nil
}

// caller returns the caller that the flags describe.
func (q *question) caller(h *Handler) (*access.Caller, error) {
	who := &access.Caller{Name: q.bearer, User: q.user}
	if q.bearer != "" {
		if q.user != "" || q.claims != nil {
			return who, errors.New("--bearer excludes --user and --claim: a named bearer has neither")
		}
		if _, ok := h.Bearers[q.bearer]; !ok {
			return who, fmt.Errorf("there is no bearer %q", q.bearer)
		}
	}
	claims, err := token.ReadClaims(q.claims)
	if err != nil {
		return who, err
	}
	who.Claims = claims
	if claim, ok := who.Claims[access.GrantsClaim]; ok {
		if who.Grants, err = access.ReadGrants(claim); err != nil {
			return who, err
		}
	}
	return who, nil
}
