package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/channel"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "evstream",
		Short: "Tools for the evstream handler",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(explainCommand(), tokenCommand())
			knownOnly(cmd)
		},
	})
}

// knownOnly makes a command refuse a subcommand that it does not have, whatever flags
// follow, and names the one that may be meant.
func knownOnly(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.FParseErrWhitelist.UnknownFlags = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("unknown command %q of %s", args[0], cmd.CommandPath())
		cmd.SuggestionsMinimumDistance = 2
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			return fmt.Errorf("%s; did you mean %s?", text, strings.Join(like, " or "))
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return fmt.Errorf("%s; there is: %s", text, strings.Join(names, ", "))
	}
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
	cmd := &cobra.Command{
		Use:   "explain --do <what> --channel <name> [--config <path> [--adapter <name>]] [--mount <path>] [--user <id>] [--claim <name>=<value>]... [--bearer <name>] [--matcher @<name>]...",
		Short: "Says who may do what, and which rule decides",
		Long: `
Reads a configuration, and says whether a caller may do something with a channel,
and for each rule why it allows that or not. It needs neither a running Caddy nor
secrets: the flags describe the caller, and --matcher names a matcher that matches
the request. A claim whose value is not JSON is a string. The exit status is 0 if it
is allowed, and 1 if it is not, or cannot be told.
`,
		Example: "  caddy evstream explain --config Caddyfile --user alice --do subscribe --channel users/bob/inbox",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, _, _, err := caddycmd.LoadConfig(q.config, q.adapter)
			switch {
			case err != nil:
				return err
			case len(config) == 0 && q.config == "":
				return errors.New("there is no configuration: this directory has no Caddyfile, and --config names none")
			case len(config) == 0:
				return fmt.Errorf("the configuration %s is empty", q.config)
			}
			err = q.answer(cmd.OutOrStdout(), config)
			cmd.SilenceErrors = errors.Is(err, errDenied) // the explanation says so
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.config, "config", "c", "", "The configuration; by default the Caddyfile of this directory")
	f.StringVarP(&q.adapter, "adapter", "a", "", "The configuration's adapter, such as caddyfile")
	f.StringVar(&q.mount, "mount", "", "The mount of the handler, required if there are several handlers")
	f.StringVar(&q.user, "user", "", "The user of the caller")
	f.StringVar(&q.bearer, "bearer", "", "The named bearer that the caller is")
	f.StringArrayVar(&q.claims, "claim", nil, "A claim of the caller, as name=value; may be repeated")
	f.StringArrayVar(&q.matchers, "matcher", nil, "A named matcher that matches the request; may be repeated")
	f.StringVar(&q.do, "do", "", "The action: "+strings.Join(access.Verbs()[:len(access.Verbs())-1], ", "))
	f.StringVar(&q.channel, "channel", "", "A channel, a pattern to subscribe to, or a name that ends in / to publish to")
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
	claims, err := readClaims(q.claims)
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

// readClaims reads claims that are given as name=value; nil if there are none.
func readClaims(list []string) (claims map[string]any, err error) {
	for _, claim := range list {
		name, text, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("a claim is name=value, not %q", claim)
		}
		if claims == nil {
			claims = make(map[string]any)
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var value any
		if d.Decode(&value) != nil || d.More() {
			value = text
		}
		claims[name] = value
	}
	return claims, nil
}

// tokenFlags holds the flags of tokenCommand.
type tokenFlags struct {
	keyEnv, keyFile, keyID string
	user                   string
	expires                time.Duration
	claims                 []string
	grants                 [][]string // by grantedVerbs
}

// grantedVerbs are those that a token can grant.
func grantedVerbs() []string { return access.Verbs()[:len(access.Verbs())-1] }

// tokenCommand is "caddy evstream token".
func tokenCommand() *cobra.Command {
	verbs := grantedVerbs()
	f := tokenFlags{grants: make([][]string, len(verbs))}
	cmd := &cobra.Command{
		Use:   "token [--user <id>] [--expires <duration>] [--subscribe <pattern>]... [--publish <pattern>]... [--claim <name>=<value>]... [--key-env <name> | --key-file <path>]",
		Short: "Makes a JSON Web Token, to try a configuration",
		Long: `
Signs a token with the key that the configuration verifies tokens with, and prints
it: with HS256 if that is a secret, or with a private key in PEM, whose public key
the configuration has. The key is read from a file or from the environment, because
other users of the host can see the arguments of a command.
`,
		Example: "  TOKEN=$(caddy evstream token --user alice --expires 1h)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := f.token(time.Now())
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.keyEnv, "key-env", "EVSTREAM_JWT_KEY", "The environment variable that has the key")
	flags.StringVar(&f.keyFile, "key-file", "", "The file that has the key")
	flags.StringVar(&f.keyID, "kid", "", "The id of the key, if the configuration gives it one")
	flags.StringVar(&f.user, "user", "", "The user: the claim sub")
	flags.DurationVar(&f.expires, "expires", time.Hour, "How long the token is valid")
	flags.StringArrayVar(&f.claims, "claim", nil, "A further claim, as name=value; a value that is not JSON is a string; may be repeated")
	for i, verb := range verbs {
		flags.StringArrayVar(&f.grants[i], verb, nil, "A channel or pattern for which the token allows "+verb+"; may be repeated")
	}
	return cmd
}

// token signs the token that the flags describe.
func (f *tokenFlags) token(now time.Time) (string, error) {
	key, from := os.Getenv(f.keyEnv), "the environment variable "+f.keyEnv
	if f.keyFile != "" {
		text, err := os.ReadFile(f.keyFile)
		if err != nil {
			return "", err
		}
		key, from = strings.TrimSuffix(string(text), "\n"), f.keyFile
	}
	if key == "" {
		return "", fmt.Errorf("there is no key: %s is unset or empty; --key-env and --key-file say where it is", from)
	}
	if f.expires <= 0 {
		return "", fmt.Errorf("--expires must be above zero, not %s", f.expires)
	}
	claims, err := readClaims(f.claims)
	if err != nil {
		return "", err
	}
	if claims == nil {
		claims = make(map[string]any)
	}
	claims["iat"], claims["exp"] = now.Unix(), now.Add(f.expires).Unix()
	if f.user != "" {
		claims["sub"] = f.user
	}
	grants := make(map[string]any)
	for i, list := range f.grants {
		patterns := make([]any, 0, len(list))
		for _, p := range list {
			patterns = append(patterns, p)
		}
		if len(list) > 0 {
			grants[grantedVerbs()[i]] = patterns
		}
	}
	if len(grants) > 0 {
		claims[access.GrantsClaim] = grants
	}
	if claim, ok := claims[access.GrantsClaim]; ok {
		if _, err := access.ReadGrants(claim); err != nil {
			return "", err
		}
	}
	token, err := auth.Sign(key, f.keyID, claims)
	if err != nil {
		return "", fmt.Errorf("the key of %s: %w", from, err)
	}
	return token, nil
}
