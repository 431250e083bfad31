package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "evstream",
		Short: "Tools for the evstream handler",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(explainCommand())
		},
	})
}

// question is what explainCommand is asked.
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
Reads a configuration, and says of each of its rules what it makes of a request:
whether somebody may do something with a channel, and why, or why not. It asks
no running Caddy, needs no secrets, and finds out nothing about a caller but what
the flags say: --matcher names the matchers that match the request. A claim that
is no JSON is a string.
`,
		Example: "  caddy evstream explain --config Caddyfile --user alice --do subscribe --channel users/bob/inbox",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, _, _, err := caddycmd.LoadConfig(q.config, q.adapter)
			if err != nil {
				return err
			}
			return q.answer(cmd.OutOrStdout(), config)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.config, "config", "c", "", "The configuration; by default the Caddyfile of this directory")
	f.StringVarP(&q.adapter, "adapter", "a", "", "The name of its adapter")
	f.StringVar(&q.mount, "mount", "", "The path that channels lie beneath, where there is more than one handler")
	f.StringVar(&q.user, "user", "", "The user who asks")
	f.StringVar(&q.bearer, "bearer", "", "The named bearer who asks")
	f.StringArrayVar(&q.claims, "claim", nil, "A claim of who asks, as name=value; may be repeated")
	f.StringArrayVar(&q.matchers, "matcher", nil, "A named matcher that matches the request; may be repeated")
	f.StringVar(&q.do, "do", "", "What: "+strings.Join(verbs[:len(verbs)-1], ", "))
	f.StringVar(&q.channel, "channel", "", "Where: a channel, a pattern to read, or a name that ends in / to publish to")
	return cmd
}

// answer explains a configuration.
func (q *question) answer(w io.Writer, config []byte) error {
	if q.channel == "" || q.do == "" {
		return errors.New("what and where is asked: give --do and --channel")
	}
	if q.do == "all" || !slices.Contains(verbs, q.do) {
		return fmt.Errorf("%q is nothing that can be done, only %s", q.do, strings.Join(verbs[:len(verbs)-1], ", "))
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
		return fmt.Errorf("nothing is mounted at %s; there are: %s", q.mount, strings.Join(mounts, ", "))
	case len(found) > 1 && q.mount == "":
		return fmt.Errorf("there is more than one handler: name one of them with --mount: %s", strings.Join(mounts, ", "))
	}
	for _, h := range found {
		x, err := q.explain(h)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, x.String()); err != nil {
			return err
		}
	}
	return nil
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

// explain asks the rules of one handler.
func (q *question) explain(h *Handler) (explanation, error) {
	names := make(map[string]string, len(h.Bearers))
	for name := range h.Bearers {
		names[name] = name // secrets play no part
	}
	a, err := newAccess(h.Allow, names)
	if err != nil {
		return explanation{}, err
	}
	who, err := q.caller(h)
	if err != nil {
		return explanation{}, err
	}
	known := make(map[string]bool)
	for i, r := range h.Allow {
		if !strings.HasPrefix(r.Who, "@") {
			continue
		}
		known[r.Who] = true
		a.rules[i].matcher = r.Who // a name says enough here
	}
	who.matched = make(map[string]bool)
	for _, name := range q.matchers {
		if !known[name] {
			return explanation{}, fmt.Errorf("no rule is for the matcher %q", name)
		}
		who.matched[name] = true
	}
	return a.explain(who, q.do, q.channel), nil
}

// caller is who asks.
func (q *question) caller(h *Handler) (caller, error) {
	who := caller{name: q.bearer, user: q.user}
	if q.bearer != "" {
		if q.user != "" || q.claims != nil {
			return who, errors.New("a named bearer is no user and has no claims")
		}
		if _, ok := h.Bearers[q.bearer]; !ok {
			return who, fmt.Errorf("there is no bearer %q", q.bearer)
		}
	}
	for _, claim := range q.claims {
		name, text, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return who, fmt.Errorf("a claim is name=value, not %q", claim)
		}
		if who.claims == nil {
			who.claims = make(map[string]any)
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var value any
		if d.Decode(&value) != nil || d.More() {
			value = text
		}
		who.claims[name] = value
	}
	if claim, ok := who.claims[grantsClaim]; ok {
		var err error
		if who.grants, err = readGrants(claim); err != nil {
			return who, err
		}
	}
	return who, nil
}
