package httpapi

import (
	"net/url"
	"path"
	"strings"

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
	if !withinMount(mount, u.Path) {
		return resource{}, false, nil
	}
	rest, err := cutMount(mount, u.EscapedPath())
	if err != nil {
		return resource{}, true, err
	}
	if rest == "" && !strings.HasSuffix(u.Path, "/") {
		return resource{kind: resourceBare}, true, nil
	}
	name, err := decodeName(rest)
	if err != nil {
		return resource{}, true, err
	}
	t, err := classify(name)
	return t, true, err
}

// cleanPath resolves "." and "..", merges slashes, and keeps a slash at the end,
// as Caddy does before it compares a path.
func cleanPath(p string) string {
	cleaned := path.Clean(p)
	if cleaned != "/" && strings.HasSuffix(p, "/") {
		cleaned += "/"
	}
	return cleaned
}

// withinMount compares as the path matcher of Caddy does.
func withinMount(mount, p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	p = cleanPath(strings.ToLower(p))
	rest, ok := strings.CutPrefix(p, strings.ToLower(mount))
	return ok && (rest == "" || rest[0] == '/')
}

// cutMount removes the segments of mount from an escaped path. What is left
// has no leading slash.
func cutMount(mount, escaped string) (string, error) {
	rest := strings.TrimPrefix(escaped, "/")
	for want := range strings.SplitSeq(strings.TrimPrefix(mount, "/"), "/") {
		if want == "" {
			break // the mount is the root
		}
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		segment, err := decodeSegment(segment)
		if err != nil {
			return "", err
		}
		if strings.ToLower(segment) != strings.ToLower(want) { //nolint:staticcheck // as Caddy compares: EqualFold folds more
			return "", errPathUnclean
		}
	}
	return rest, nil
}

// decodeName percent-decodes each segment once. A slash at the end stays.
func decodeName(rest string) (string, error) {
	if rest == "" {
		return "", nil
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), "/") {
		if _, err := decodeSegment(segment); err != nil {
			return "", err
		}
	}
	// No segment has an encoded slash, so all can be decoded at once.
	name, err := url.PathUnescape(rest)
	if err != nil {
		return "", errPathEscape
	}
	return name, nil
}

func decodeSegment(segment string) (string, error) {
	decoded, err := url.PathUnescape(segment)
	switch {
	case err != nil:
		return "", errPathEscape
	case decoded == "" || decoded == "." || decoded == "..":
		return "", errPathUnclean
	case strings.Contains(decoded, "/"):
		return "", errPathSlash
	}
	return decoded, nil
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
	case name[0] == '_':
		return resource{}, problem.NotFound.Because("%q is none of the hub's own resources, which are _publish, _channels and _tickets; channels do not begin with _", name)
	case strings.HasSuffix(name, "/"):
		return resource{kind: resourceBeneath, name: name}, nil
	}
	return resource{kind: resourceChannel, name: name}, nil
}

// Errors of parseResource.
var (
	errPathEscape  = problem.BadPath.Because("the path has a malformed percent-encoding")
	errPathUnclean = problem.BadPath.Because("the path has an empty, . or .. segment; write it without")
	errPathSlash   = problem.BadPath.Because("the path has an encoded slash; segments of a channel are split by plain slashes")
)
