package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
	"github.com/evstream/caddy-evstream/client"
)

// subscribeFlags are the flags of subscribeCommand.
type subscribeFlags struct {
	hub    hubFlags
	o      client.SubscribeOptions
	raw    bool
	quiet  bool
	count  int
	during time.Duration
}

// subscribeCommand is "caddy evstream subscribe".
func subscribeCommand() *cobra.Command {
	var s subscribeFlags
	cmd := &cobra.Command{
		Use:   "subscribe <channel>...",
		Short: "Prints the events of channels as they come",
		Long: `
Reads channels, or patterns such as 'match.*', and prints each event: when it was published,
its channel, its name and its data. Control characters in the data are shown as escapes.
What happens to the connection is told on the standard error. A connection that is lost
comes back, and goes on with the next event; where events were lost, a line says so.

It ends with status 0 when the hub ends the stream, such as when all its channels are
closed, and after --count events; with 1 when the hub refuses it, or if --for is over
before --count events came.
`,
		Example: `  caddy evstream subscribe 'match.*' --last 10
  caddy evstream subscribe orders/17 --json | jq .data
  caddy evstream subscribe chat/42 --raw --since earliest`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused("%s takes the names of channels, or patterns", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.count < 0 || s.during < 0 {
				return misused("--count and --for are not negative")
			}
			if s.o.Last < 0 {
				return misused("--last is not negative")
			}
			s.o.Channels, s.o.Notices, s.o.MustConnect = args, true, true
			return s.hub.run(cmd.Context(), func(ctx context.Context, c *connection) error {
				return s.follow(ctx, cmd, c)
			})
		},
	}
	s.hub.add(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&s.o.Types, "event", "e", nil, "Only events of that `name`; may be repeated")
	f.IntVarP(&s.o.Last, "last", "n", 0, "Begins with the newest `n` events of each channel")
	f.StringVar(&s.o.Since, "since", "", "Begins at a `time`: earliest, 30s ago, or as 2026-01-31T12:00:00Z")
	f.StringVar(&s.o.LastEventID, "last-event-id", "", "Begins after the event of that `id`")
	f.BoolVar(&s.o.Presence, "presence", false, "Tells who comes to the channels and leaves them")
	f.BoolVar(&s.raw, "raw", false, "Prints the data of events and nothing else, each with a line end")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "Tells nothing of the connection, but gaps")
	f.IntVarP(&s.count, "count", "c", 0, "Ends after `n` events")
	f.DurationVar(&s.during, "for", 0, "Ends after that time")
	cmd.MarkFlagsMutuallyExclusive("last", "since", "last-event-id")
	cmd.MarkFlagsMutuallyExclusive("raw", "json")
	return cmd
}

// errOver ends a subscription when its time is over.
var errOver = errors.New("the time is over")

// follow prints what a subscription gets, until its end.
func (s *subscribeFlags) follow(ctx context.Context, cmd *cobra.Command, c *connection) error {
	if s.during > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, s.during, errOver)
		defer stop()
	}
	w := newEventWriter(cmd, s)
	sub := c.Subscribe(ctx, s.o)
	defer sub.Close()
	for events := 0; s.count == 0 || events < s.count; {
		e, err := sub.Next()
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			if err := w.gap(gap); err != nil {
				return err
			}
			continue
		}
		switch {
		case err == io.EOF: //nolint:errorlint // it is itself
			return w.end(sub.EndReason())
		case errors.Is(err, errOver) && s.count == 0:
			return nil
		case errors.Is(err, errOver):
			return fmt.Errorf("%s of %d came in %s", plural(events, "event"), s.count, s.during)
		case err != nil:
			return err
		}
		if err := w.event(&e); err != nil {
			return err
		}
		if e.Kind < client.KindOpen {
			events++
		}
	}
	return nil
}

// eventWriter prints what a subscription gets.
type eventWriter struct {
	flags          *subscribeFlags
	out, notes     io.Writer
	painted, noted term.Painter
	one            bool // a single channel is read, by its name
}

func newEventWriter(cmd *cobra.Command, s *subscribeFlags) *eventWriter {
	out, notes := cmd.OutOrStdout(), cmd.ErrOrStderr()
	one := len(s.o.Channels) == 1 && !strings.Contains(s.o.Channels[0], "*")
	return &eventWriter{s, out, notes, term.Paint(out), term.Paint(notes), one}
}

// eventDoc is an event in JSON.
type eventDoc struct {
	Kind    string  `json:"kind"`
	Channel string  `json:"channel,omitempty"`
	Event   string  `json:"event,omitempty"`
	ID      string  `json:"id,omitempty"`
	Data    *string `json:"data,omitempty"`

	Value   json.RawMessage `json:"value,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`

	Presence *client.PresenceChange `json:"presence,omitempty"`

	Session string  `json:"session,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	Oldest  string  `json:"oldest,omitempty"`
	Newest  string  `json:"newest,omitempty"`
	Wait    float64 `json:"wait,omitempty"` // seconds
}

// kindNames are what JSON calls the kinds.
var kindNames = map[client.EventKind]string{
	client.KindEvent: "event", client.KindValue: "value", client.KindDirect: "direct", client.KindPresence: "presence",
	client.KindOpen: "open", client.KindRetry: "retry", client.KindClosed: "closed", client.KindJoined: "joined", client.KindLeft: "left",
}

// event prints one event.
func (w *eventWriter) event(e *client.Event) error {
	switch {
	case w.flags.quiet && e.Kind >= client.KindOpen:
		return nil
	case w.flags.hub.json:
		doc := eventDoc{Kind: kindNames[e.Kind], Channel: e.Channel, Event: e.Type, ID: e.ID, Value: e.Value, Presence: e.Presence}
		switch e.Kind {
		case client.KindEvent, client.KindDirect:
			data := string(e.Data)
			doc.Data = &data
		case client.KindValue:
			doc.Event, doc.Deleted = "", e.Value == nil
		case client.KindOpen:
			doc.Event, doc.Session = "", e.Open.Session
		case client.KindRetry:
			doc.Reason, doc.Wait = lostBecause(e.Err), e.Wait.Seconds()
		default:
			doc.Event = ""
		}
		return term.JSON(w.out, doc)
	case e.Kind >= client.KindOpen:
		return w.notice(e)
	case w.flags.raw:
		return w.bare(e)
	}
	return w.line(e)
}

// bare prints the data of an event, or a value.
func (w *eventWriter) bare(e *client.Event) error {
	data := e.Data
	switch {
	case e.Kind == client.KindPresence:
		return nil
	case e.Kind == client.KindValue && e.Value == nil:
		return w.note(term.Yellow, e.Channel+" has no value any more")
	case e.Kind == client.KindValue:
		data = e.Value
	}
	_, err := w.out.Write(append(data, '\n'))
	return err
}

// line prints an event in a line, or more where its data has several.
func (w *eventWriter) line(e *client.Event) error {
	var b strings.Builder
	b.WriteString(w.painted.In(term.Dim, clock(e.ID)))
	name, data := e.Type, string(e.Data)
	switch e.Kind {
	case client.KindValue:
		name, data = "=", string(e.Value)
		if e.Value == nil {
			name, data = "deleted", ""
		}
	case client.KindDirect:
		name = strings.TrimSpace("(to this session) " + name)
	case client.KindPresence:
		name, data = "presence", present(e.Presence)
	}
	if !w.one && e.Channel != "" {
		b.WriteString("  " + w.painted.In(term.Cyan, term.Line(e.Channel)))
	}
	if name != "" {
		b.WriteString("  " + w.painted.In(term.Yellow, term.Line(name)))
	}
	if data != "" {
		b.WriteString("  " + strings.ReplaceAll(term.Clean(data), "\n", "\n            | "))
	}
	_, err := fmt.Fprintln(w.out, b.String())
	return err
}

// clock is the time at which an event was published, or now if its id has none.
func clock(id string) string {
	at := time.Now()
	if ms, _, ok := strings.Cut(id, "-"); ok {
		if n, err := strconv.ParseInt(ms, 10, 64); err == nil {
			at = time.UnixMilli(n)
		}
	}
	return at.Format("15:04:05.000")
}

// present says who is in a channel, or what has changed.
func present(p *client.PresenceChange) string {
	names := func(list []client.Member) string {
		var all []string
		for _, m := range list {
			all = append(all, m.User)
		}
		return strings.Join(all, ", ")
	}
	text := []string{strconv.Itoa(p.Count) + " present"}
	if p.Anonymous > 0 {
		text = append(text, strconv.Itoa(p.Anonymous)+" anonymous")
	}
	if p.Members != nil && len(*p.Members) > 0 {
		text = append(text, names(*p.Members))
	}
	if p.Joined != nil && len(*p.Joined) > 0 {
		text = append(text, "joined: "+names(*p.Joined))
	}
	if len(p.Left) > 0 {
		text = append(text, "left: "+names(p.Left))
	}
	if len(p.Updated) > 0 {
		text = append(text, "updated: "+names(p.Updated))
	}
	return strings.Join(text, "; ")
}

// note tells something on the standard error.
func (w *eventWriter) note(style term.Style, text string) error {
	_, err := fmt.Fprintln(w.notes, w.noted.In(style, "# "+term.Line(text)))
	return err
}

// notice tells what happens to the connection.
func (w *eventWriter) notice(e *client.Event) error {
	switch e.Kind {
	case client.KindOpen:
		text := "connected, session " + e.Open.Session
		if len(e.Open.Ignored) > 0 {
			text += "; the hub ignores " + strings.Join(e.Open.Ignored, ", ")
		}
		if e.Open.HTTP != "" {
			text += "; a proxy speaks HTTP/" + e.Open.HTTP + " to the hub, which hides crashes"
		}
		if e.Open.Complete != nil && !*e.Open.Complete {
			text += "; the history does not go back that far"
		}
		return w.note(term.Dim, text)
	case client.KindRetry:
		return w.note(term.Yellow, fmt.Sprintf("%s; again in %s", lostBecause(e.Err), e.Wait.Round(100*time.Millisecond)))
	case client.KindClosed:
		return w.note(term.Dim, e.Channel+" is closed")
	}
	return w.note(term.Dim, kindNames[e.Kind]+" "+e.Channel)
}

// lostBecause says why a connection was lost.
func lostBecause(err error) string {
	if err == io.EOF { //nolint:errorlint // it is itself
		return "the server has ended the connection"
	}
	return "the connection is lost: " + err.Error()
}

// gap tells that events were lost, whatever the flags are.
func (w *eventWriter) gap(g *client.GapError) error {
	if w.flags.hub.json {
		return term.JSON(w.out, eventDoc{Kind: "gap", Reason: g.Reason, Oldest: g.Oldest, Newest: g.Newest})
	}
	return w.note(term.Red, g.Error())
}

// end tells that the hub has ended the stream.
func (w *eventWriter) end(reason string) error {
	switch {
	case w.flags.quiet:
		return nil
	case w.flags.hub.json:
		return term.JSON(w.out, eventDoc{Kind: "end", Reason: reason})
	case reason == "":
		return w.note(term.Dim, "the stream has ended")
	}
	return w.note(term.Dim, "the stream has ended: "+reason)
}
