// Package token is "caddy evstream token": it makes tokens to try a configuration with, and
// shows what a token says.
package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/cli"
)

// flags are those that say what a token is.
type flags struct {
	keyEnv, keyFile, keyID string
	user                   string
	expires                time.Duration
	claims                 []string
	grants                 [][]string // by grantedVerbs
}

// grantedVerbs are those that a token can grant.
func grantedVerbs() []string { return access.Verbs()[:len(access.Verbs())-1] }

// Command is "caddy evstream token", which is the same as "token make".
func Command() *cobra.Command {
	cmd := makeCommand("token")
	cmd.AddCommand(makeCommand("make"), cli.TokenInspect())
	return cmd
}

// makeCommand is the command that makes a token, by one of its names.
func makeCommand(name string) *cobra.Command {
	verbs := grantedVerbs()
	f := flags{grants: make([][]string, len(verbs))}
	cmd := &cobra.Command{
		Use:   name + " [--user <id>] [--expires <duration>] [--subscribe <pattern>]... [--publish <pattern>]... [--claim <name>=<value>]... [--key-env <name> | --key-file <path>]",
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
			if cmd.Flags().Changed("user") && f.user == "" {
				return errors.New("--user is empty")
			}
			token, err := f.token(time.Now())
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			}
			return err
		},
	}
	set := cmd.Flags()
	set.StringVar(&f.keyEnv, "key-env", "EVSTREAM_JWT_KEY", "The `name` of the environment variable that has the key")
	set.StringVar(&f.keyFile, "key-file", "", "The `file` that has the key")
	set.StringVar(&f.keyID, "kid", "", "The `id` of the key, if the configuration gives it one")
	set.StringVar(&f.user, "user", "", "The `id` of the user: the claim sub")
	set.DurationVar(&f.expires, "expires", time.Hour, "How long the token is valid")
	set.StringArrayVar(&f.claims, "claim", nil, "A further claim, as `name=value`; a value that is not JSON is a string; may be repeated")
	for i, verb := range verbs {
		set.StringArrayVar(&f.grants[i], verb, nil, "A channel or `pattern` for which the token allows "+verb+"; may be repeated")
	}
	cmd.MarkFlagsMutuallyExclusive("key-env", "key-file")
	return cmd
}

// checkClaims refuses claims that a flag gives.
func (f *flags) checkClaims(claims map[string]any) error {
	for _, c := range []struct{ name, why string }{
		{"sub", "--user gives this claim"},
		{"exp", "--expires gives this claim, as a duration"},
		{"iat", "this claim is the time at which the token is made"},
	} {
		if _, ok := claims[c.name]; ok {
			return fmt.Errorf("--claim %s: %s", c.name, c.why)
		}
	}
	if _, ok := claims[access.GrantsClaim]; ok {
		for i, verb := range grantedVerbs() {
			if len(f.grants[i]) > 0 {
				return fmt.Errorf("--claim %s excludes --%s: both say what the token allows", access.GrantsClaim, verb)
			}
		}
	}
	return nil
}

// token signs the token that the flags describe.
func (f *flags) token(now time.Time) (string, error) {
	key, from := os.Getenv(f.keyEnv), "the environment variable "+f.keyEnv
	if f.keyFile != "" {
		text, err := os.ReadFile(f.keyFile)
		if err != nil {
			return "", err
		}
		key, from = strings.TrimRight(string(text), "\r\n"), f.keyFile
	}
	if key == "" {
		return "", fmt.Errorf("there is no key: %s is unset or empty; --key-env and --key-file say where it is", from)
	}
	if f.expires <= 0 {
		return "", fmt.Errorf("--expires must be above zero, not %s", f.expires)
	}
	claims, err := ReadClaims(f.claims)
	if err != nil {
		return "", err
	}
	if err := f.checkClaims(claims); err != nil {
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

// ReadClaims reads claims that are given as name=value; nil if there are none.
func ReadClaims(list []string) (claims map[string]any, err error) {
	for _, claim := range list {
		name, text, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("a claim is name=value, not %q", claim)
		}
		if claims == nil {
			claims = make(map[string]any)
		}
		if _, ok := claims[name]; ok {
			return nil, fmt.Errorf("the claim %s is given twice; one of several values is written as JSON, such as %s='[\"a\",\"b\"]'", name, name)
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
