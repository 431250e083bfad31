package httpapi

import (
	"net/url"
	"strings"

	"github.com/evstream/caddy-evstream/httpapi/internal/files"
	"github.com/evstream/caddy-evstream/httpapi/internal/paths"
	"github.com/evstream/caddy-evstream/httpapi/internal/sessions"
	"github.com/evstream/caddy-evstream/problem"
)

// resourceKind says what a request path leads to.
type resourceKind uint8

const (
	resourceMount       resourceKind = iota // {b}/: no channel
	resourceBare                            // {b} without the slash at its end
	resourceChannel                         // a channel, or when reading a pattern
	resourceBeneath                         // a channel and everything beneath it
	resourcePublish                         // {b}/_publish
	resourceChannels                        // {b}/_channels
	resourceTickets                         // {b}/_tickets
	resourceRevocations                     // {b}/_revocations, of the admin endpoint
	resourceSessions                        // {b}/_sessions, and what lies beneath it
	resourcePresence                        // {b}/_presence/{channel}
	resourceFile                            // one that package files has
)

// resource is what a request path names beneath a mount.
type resource struct {
	kind resourceKind
	// name is the name of the channel, percent-decoded once; it ends in "/" for
	// resourceBeneath. It may be an invalid name.
	name string
}

// parseResource finds what u names beneath mount. It reports false when the
// path lies outside of the mount as Caddy compares paths: decoded, cleaned and
// without regard to case.
//
// The name comes from the escaped path, so that "%2F" is not taken for a
// separator. A path that Caddy would clean before it compares it is refused: the
// routes of Caddy and the rules here must see the same path.
func parseResource(mount string, u *url.URL) (resource, bool, error) {
	if !paths.Within(mount, u.Path) {
		return resource{}, false, nil
	}
	rest, err := paths.Cut(mount, u.EscapedPath())
	if err != nil {
		return resource{}, true, err
	}
	if rest == "" && !strings.HasSuffix(u.Path, "/") {
		return resource{kind: resourceBare}, true, nil
	}
	name, err := paths.Decode(rest)
	if err != nil {
		return resource{}, true, err
	}
	t, err := classify(name)
	return t, true, err
}

// classify tells channels from the hub's own resources.
func classify(name string) (resource, error) {
	switch {
	case name == "":
		return resource{kind: resourceMount}, nil
	case name == "_publish":
		return resource{kind: resourcePublish, name: name}, nil
	case name == "_channels":
		return resource{kind: resourceChannels, name: name}, nil
	case name == "_tickets":
		return resource{kind: resourceTickets, name: name}, nil
	case name == "_revocations":
		return resource{kind: resourceRevocations, name: name}, nil
	case files.Is(name):
		return resource{kind: resourceFile, name: name}, nil
	case sessions.Is(name):
		return resource{kind: resourceSessions, name: name}, nil
	case strings.HasPrefix(name, "_presence/"):
		return resource{kind: resourcePresence, name: strings.TrimPrefix(name, "_presence/")}, nil
	case name[0] == '_':
		return resource{}, problem.NotFound.Because("%q is none of the hub's own resources, which are _publish, _channels, _sessions, _presence/{channel}, _tickets, _client.js and _openapi.json; channels do not begin with _", name)
	case strings.HasSuffix(name, "/"):
		return resource{kind: resourceBeneath, name: name}, nil
	}
	return resource{kind: resourceChannel, name: name}, nil
}
