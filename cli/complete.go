package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/client"
)

// How long a shell waits for what could come next, and how much of it.
const (
	completeTimeout = time.Second
	maxCompleted    = 100
)

// completes has a shell complete the arguments of a command that are channels and
// sessions, as its Use names them. The hub is asked; if it does not answer, there is
// nothing to choose from.
func (h *hubFlags) completes(cmd *cobra.Command) {
	names := strings.Fields(cmd.Use)[1:]
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var list []cobra.Completion
		switch name := nameOf(names, len(args)); {
		case strings.Contains(name, "<channel>"), strings.Contains(name, "<prefix>"):
			list = h.channelNames(cmd.Context(), begun)
		case strings.Contains(name, "<session>"):
			list = h.sessionIDs(cmd.Context(), begun)
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// nameOf is the name of the argument i, "" if there is none. One that ends in "..." may be
// repeated.
func nameOf(names []string, i int) string {
	if n := len(names); i >= n && n > 0 && strings.HasSuffix(names[n-1], "...") {
		return names[n-1]
	}
	if i >= len(names) {
		return ""
	}
	return names[i]
}

// ask asks the hub for what could come next, once.
func (h *hubFlags) ask(ctx context.Context, do func(context.Context, *connection)) {
	if ctx == nil {
		ctx = context.Background() // cobra gives none where the program gives it none
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	c, err := h.connect(client.Options{Attempts: 1, Timeout: completeTimeout})
	if err != nil {
		return
	}
	defer c.Close()
	do(ctx, c)
}

func (h *hubFlags) channelNames(ctx context.Context, begun string) (list []cobra.Completion) {
	h.ask(ctx, func(ctx context.Context, c *connection) {
		page, err := c.Channels(ctx, begun, "", maxCompleted)
		if err != nil {
			return
		}
		for i := range page.Channels {
			list = append(list, page.Channels[i].Name)
		}
	})
	return list
}

func (h *hubFlags) sessionIDs(ctx context.Context, begun string) (list []cobra.Completion) {
	h.ask(ctx, func(ctx context.Context, c *connection) {
		page, err := c.Sessions(ctx, client.SessionFilter{Limit: maxCompleted})
		if err != nil {
			return
		}
		for i := range page.Sessions {
			if s := &page.Sessions[i]; strings.HasPrefix(s.ID, begun) {
				list = append(list, cobra.CompletionWithDesc(s.ID, strings.TrimSpace(who(s)+" "+reads(s, 40))))
			}
		}
	})
	return list
}
