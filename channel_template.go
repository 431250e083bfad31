package evstream

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/channel"
)

// channelTemplate is the name of a channel with placeholders.
type channelTemplate struct {
	parts []string // text and placeholders, in turn; it begins with text
}

// parseChannelTemplate reads a template, and reports what cannot become a channel.
func parseChannelTemplate(s string) (t channelTemplate, err error) {
	rest := s
	for {
		text, after, found := strings.Cut(rest, "{")
		t.parts = append(t.parts, text)
		if !found {
			break
		}
		name, after, closed := strings.Cut(after, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return t, fmt.Errorf("%q is no channel with placeholders, such as chat/{http.request.uri.path.2}", s)
		}
		if strings.HasPrefix(name, ourPrefix) && (!strings.HasPrefix(name, bodyPrefix) || strings.Contains(name+".", "..")) {
			return t, fmt.Errorf("{%s} means nothing: what evstream has is {%s<member>}, a member of the request's JSON body, such as {%[2]sid}", name, bodyPrefix)
		}
		t.parts = append(t.parts, name)
		rest = after
	}
	if err := channel.Check(strings.Join(t.fill(func(string) string { return "x" }), "")); err != nil {
		return t, err
	}
	return t, nil
}

// fill puts values in the place of placeholders.
func (t channelTemplate) fill(value func(name string) string) []string {
	filled := make([]string, len(t.parts))
	for i, part := range t.parts {
		if i%2 == 1 {
			part = value(part)
		}
		filled[i] = part
	}
	return filled
}

// pattern matches the channels that the template can become.
func (t channelTemplate) pattern() string {
	return strings.Join(t.fill(func(string) string { return "*" }), "")
}

// needsBody reports whether a placeholder is a member of the request's body.
func (t channelTemplate) needsBody() bool {
	for i := 1; i < len(t.parts); i += 2 {
		if strings.HasPrefix(t.parts[i], bodyPrefix) {
			return true
		}
	}
	return false
}

// of is the channel for a request with a body; false if a placeholder has no value, or the
// name would be too long.
func (t channelTemplate) of(r *http.Request, body []byte) (string, bool) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return "", false
	}
	name := strings.Join(t.fill(func(name string) string {
		var value string
		var known bool
		if path, ofBody := strings.CutPrefix(name, bodyPrefix); ofBody {
			value, known = jsonMember(body, path)
		} else {
			value, known = repl.GetString(name)
		}
		ok = ok && known && value != ""
		return channel.Escape(value)
	}), "")
	return name, ok && channel.Check(name) == nil
}
