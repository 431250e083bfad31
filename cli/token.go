package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
)

// TokenInspect is "caddy evstream token inspect".
func TokenInspect() *cobra.Command {
	var (
		file   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "inspect [-]",
		Short: "Shows what a JSON Web Token says",
		Long: `
Shows the header and the claims of the token in $EVSTREAM_TOKEN, in a file, or with - at the
standard input. It has no key, and verifies nothing: a hub may refuse what it shows. The
status is 1 if the token has expired, or is none.
`,
		Example: `  caddy evstream token --user alice | caddy evstream token inspect -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] != "-" {
				return misused("%s takes a token from $EVSTREAM_TOKEN, --token-file or with - the standard input; other users of this host can see what is an argument", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := tokenOf(cmd, args, file)
			if err != nil {
				return err
			}
			t, err := readToken(token)
			if err != nil {
				return err
			}
			if asJSON {
				err = term.JSON(cmd.OutOrStdout(), t)
			} else {
				err = t.print(cmd.OutOrStdout(), time.Now())
			}
			if err == nil {
				err = t.check(time.Now())
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "token-file", "", "The `file` that has the token")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Prints JSON")
	prepare(cmd)
	return cmd
}

// maxToken bounds a token.
const maxToken = 64 << 10

// tokenOf reads the token that is meant.
func tokenOf(cmd *cobra.Command, args []string, file string) (string, error) {
	var text []byte
	switch {
	case len(args) == 1 && file != "":
		return "", misused("- and --token-file both say where the token is")
	case len(args) == 1:
		read, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxToken+1))
		if err != nil {
			return "", fmt.Errorf("reading the standard input: %w", err)
		}
		text = read
	case file != "":
		read, err := os.ReadFile(file) //nolint:gosec // the caller names it
		if err != nil {
			return "", Usage(err)
		}
		text = read
	default:
		text = []byte(os.Getenv("EVSTREAM_TOKEN"))
	}
	token := strings.TrimPrefix(strings.TrimSpace(string(text)), "Bearer ")
	switch {
	case token == "":
		return "", misused("there is no token: EVSTREAM_TOKEN is unset or empty; --token-file names a file, and - is the standard input")
	case len(token) > maxToken:
		return "", fmt.Errorf("the token has more than %d bytes", maxToken)
	}
	return token, nil
}

// token is what a JSON Web Token says.
type token struct {
	Header map[string]any `json:"header"`
	Claims map[string]any `json:"claims"`
}

// readToken decodes a token, and verifies nothing.
func readToken(text string) (*token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errors.New("it is not a JSON Web Token, which has three parts with dots between them; the secret of a bearer says nothing of itself")
	}
	t := new(token)
	for i, to := range []*map[string]any{&t.Header, &t.Claims} {
		name := []string{"header", "claims"}[i]
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, fmt.Errorf("it is not a JSON Web Token: its %s: %w", name, err)
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(to); err != nil {
			return nil, fmt.Errorf("it is not a JSON Web Token: its %s: %w", name, err)
		}
	}
	return t, nil
}

// at is the time that a claim has.
func (t *token) at(claim string) (time.Time, bool) {
	n, ok := t.Claims[claim].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	return time.UnixMilli(int64(seconds * 1000)), err == nil
}

// check reports why a token is not valid now, whoever has signed it.
func (t *token) check(now time.Time) error {
	if at, ok := t.at("exp"); ok && !now.Before(at) {
		return fmt.Errorf("the token has expired %s ago", ago(at))
	}
	if at, ok := t.at("nbf"); ok && now.Before(at) {
		return fmt.Errorf("the token is not valid before %s", at.Format(time.RFC3339))
	}
	if t.Header["alg"] == "none" {
		return errors.New("the token is not signed (alg none), which no hub accepts")
	}
	return nil
}

// meanings are what the claims mean to a hub.
var meanings = map[string]string{
	"sub": "the user", "exp": "expires", "iat": "was made", "nbf": "not before", "iss": "the issuer", "aud": "the audience",
	"jti": "the token's own id", "evstream": "what it allows",
}

// print shows a token as text.
func (t *token) print(w io.Writer, now time.Time) error {
	rows := term.NewTable(w, "CLAIM", "VALUE", "MEANING")
	cell := func(v any) string {
		if s, ok := v.(string); ok {
			return s
		}
		text, _ := json.Marshal(v)
		return string(text)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Header)) {
		rows.Row(name, cell(t.Header[name]), "header")
	}
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		meaning := meanings[name]
		if at, ok := t.at(name); ok && meaning != "" {
			meaning += " " + at.UTC().Format(time.RFC3339)
			if name == "exp" && now.Before(at) {
				meaning += ", in " + at.Sub(now).Round(time.Second).String()
			}
		}
		rows.Row(name, cell(t.Claims[name]), meaning)
	}
	return rows.Flush()
}
