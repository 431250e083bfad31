package evstream

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// takeoverSubdirectives are the subdirectives of handlers that take over.
var takeoverSubdirectives = []string{"handoff", "record", "resume"}

// blockTakesOver reports whether the block of a directive has one of them. It leaves d
// before the directive.
func blockTakesOver(d *caddyfile.Dispenser) (has bool) {
	d.Reset()
	d.Next()
	d.RemainingArgs()
	for d.NextBlock(0) {
		has = has || d.Nesting() == 1 && slices.Contains(takeoverSubdirectives, d.Val())
		d.RemainingArgs()
	}
	d.Reset()
	return has
}

// unmarshalTakeover reads a subdirective of handlers that take over; known reports whether
// it is one. Syntax:
//
//	handoff [grip [{
//		key <key>
//		iss <issuer>
//		publish <path>
//	}]]
//	record <channel> [{
//		on_active     join|replace|refuse
//		longest       <duration>
//		largest       <size>
//		keep          <duration>
//		headers       <names...>
//		broken_event  [<event>] <data>
//		stopped_event [<event>] <data>
//	}]
//	resume <channel>
func (h *Handler) unmarshalTakeover(d *caddyfile.Dispenser) (known bool, err error) {
	switch d.Val() {
	case "handoff":
		h.Handoff = new(HandoffConfig)
		return true, h.Handoff.unmarshal(d)
	case "record":
		h.Record = new(RecordConfig)
		return true, h.Record.unmarshal(d)
	case "resume":
		h.Resume = new(ResumeConfig)
		return true, oneTemplate(d, &h.Resume.Channel)
	}
	return false, nil
}

// oneTemplate reads the channel that follows.
func oneTemplate(d *caddyfile.Dispenser, to *string) error {
	if err := oneArg(d, to, "one channel, such as chat/{http.request.uri.path.2}"); err != nil {
		return err
	}
	if _, err := parseChannelTemplate(*to); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *RecordConfig) unmarshal(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("record takes the channel that answers are recorded on, such as chat/{http.request.uri.path.2}%s", unsetVariable(d))
	}
	c.Channel = d.Val()
	if _, err := parseChannelTemplate(c.Channel); err != nil {
		return d.WrapErr(err)
	}
	_, err := block(d, "record", nil, func(name string) error {
		switch name {
		case "on_active":
			return oneOf(d, &c.OnActive, "join", "replace", "refuse")
		case "longest":
			return parseDuration(d, name, d.RemainingArgs(), &c.Longest)
		case "largest":
			return parseLimit(d, parseSize, &c.Largest)
		case "keep":
			return parseDuration(d, name, d.RemainingArgs(), &c.Keep)
		case "headers":
			return someArgs(d, &c.Headers, "names of header fields, such as x-run-id")
		case "broken_event":
			return parseMark(d, &c.Broken)
		case "stopped_event":
			return parseMark(d, &c.Stopped)
		}
		return d.Errf("unknown subdirective %q of record%s", name, recordWords.hint(name))
	})
	return err
}

// parseMark reads an event: its data, or its type and its data.
func parseMark(d *caddyfile.Dispenser, to **MarkConfig) error {
	name, args := d.Val(), d.RemainingArgs()
	switch len(args) {
	case 1:
		*to = &MarkConfig{Data: args[0]}
	case 2:
		*to = &MarkConfig{Event: args[0], Data: args[1]}
	default:
		return d.Errf("%s takes the data of an event, or its type and its data, not %d arguments", name, len(args))
	}
	return nil
}
