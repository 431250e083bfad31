package access

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// template is a pattern of a rule. In it "{user}" and "{claims.<name>}" stand for
// one whole segment each, which is the caller's.
type template struct {
	pattern  channel.Pattern // where there are no placeholders
	segments []string        // where there are
}

// Placeholders of a template.
const (
	userPlaceholder  = "{user}"
	claimPlaceholder = "{claims."
)

// parseTemplate reads a pattern. A placeholder that is unknown, or not a whole
// segment, is an error.
func parseTemplate(s string) (template, error) {
	if !strings.ContainsAny(s, "{}") {
		p, err := channel.ParsePattern(s)
		return template{pattern: p}, err
	}
	segments := strings.Split(s, "/")
	sample := make([]string, len(segments))
	for i, segment := range segments {
		sample[i] = segment
		if !strings.ContainsAny(segment, "{}") {
			continue
		}
		name, ok := placeholder(segment)
		if !ok {
			return template{}, fmt.Errorf("%q has %q: only {user} and {claims.<name>} can stand in a pattern, each as a whole segment", s, segment)
		}
		if name == "" || channel.Check("x/"+name) != nil {
			sample[i] = "claim" // a claim may be named what no channel is
			continue
		}
		sample[i] = name
	}
	// The rest must be a pattern, whatever the placeholders become.
	_, err := channel.ParsePattern(strings.Join(sample, "/"))
	return template{segments: segments}, err
}

// placeholder reads a segment that is one: its name is that of a claim, or
// "user".
func placeholder(segment string) (name string, ok bool) {
	if segment == userPlaceholder {
		return "user", true
	}
	name, ok = strings.CutPrefix(segment, claimPlaceholder)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "}")
	return name, ok && name != "" && !strings.ContainsAny(name, "{}")
}

// of is the pattern for one caller. It reports false where the caller lacks a value,
// or a value cannot be one segment of a channel's name: then the template matches
// no channel.
func (w *template) of(who *Caller) (channel.Pattern, bool) {
	if w.segments == nil {
		return w.pattern, true
	}
	filled := make([]string, len(w.segments))
	for i, segment := range w.segments {
		filled[i] = segment
		if segment[0] != '{' {
			continue
		}
		value, ok := who.value(segment)
		// A value is one segment: it has no slash, and no "*", which would match
		// what others have. Only behind the first segment it may begin with "_",
		// which the parser sees to.
		if !ok || strings.Contains(value, "/") || channel.Check("x/"+value) != nil {
			return channel.Pattern{}, false
		}
		filled[i] = value
	}
	p, err := channel.ParsePattern(strings.Join(filled, "/"))
	return p, err == nil
}

// value is what a placeholder stands for.
func (c *Caller) value(segment string) (string, bool) {
	if segment == userPlaceholder {
		return c.User, c.User != ""
	}
	name, ok := placeholder(segment)
	if !ok {
		return "", false
	}
	claim := c.Claims[name]
	if _, truth := claim.(bool); truth {
		return "", false
	}
	return claimText(claim)
}

// claimText is the text of a claim that is a string, a number or a boolean, as
// JSON writes it, without quotes. A number that could not be held exactly has
// none: it could be taken for another.
func claimText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		const exact = 1 << 53
		if math.IsNaN(v) || math.Abs(v) >= exact {
			return "", false
		}
		b, err := json.Marshal(v)
		return string(b), err == nil
	}
	return "", false
}
