package evstream

import (
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// targetKind says what a request path leads to.
type targetKind uint8

const (
	targetMount       targetKind = iota // the mount itself: no channel
	targetChannel                       // a channel, or when reading a pattern
	targetBeneath                       // a channel and everything beneath it
	targetPublish                       // {b}/_publish
	targetChannels                      // {b}/_channels
	targetTickets                       // {b}/_tickets
	targetRevocations                   // {b}/_revocations, of the admin endpoint
)

// target is what a request path names beneath a mount.
type target struct {
	kind targetKind
	// name is the channel's, percent-decoded once; it ends in "/" for
	// targetBeneath. Whether it is a good name is not decided here.
	name string
}

// parseTarget finds what u names beneath mount. It reports false when the
// path lies outside of the mount as Caddy compares paths: decoded, cleaned and
// without regard to case.
//
// The name comes from the escaped path, so that "%2F" is not taken for a
// separator. A path that Caddy would have to clean first is refused, because
// two readings of one path are one too many where rules depend on it.
func parseTarget(mount string, u *url.URL) (target, bool, error) {
	if !withinMount(mount, u.Path) {
		return target{}, false, nil
	}
	rest, err := cutMount(mount, u.EscapedPath())
	if err != nil {
		return target{}, true, err
	}
	name, err := decodeName(rest)
	if err != nil {
		return target{}, true, err
	}
	t, err := classify(name)
	return t, true, err
}

// withinMount compares as the path matcher of Caddy does.
func withinMount(mount, path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	path = caddyhttp.CleanPath(strings.ToLower(path), true)
	rest, ok := strings.CutPrefix(path, strings.ToLower(mount))
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
	// No segment hides a slash, so decoding the whole is decoding each.
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

// classify tells channels from the hub's own names.
func classify(name string) (target, error) {
	switch {
	case name == "":
		return target{kind: targetMount}, nil
	case name == "_publish":
		return target{kind: targetPublish, name: name}, nil
	case name == "_channels":
		return target{kind: targetChannels, name: name}, nil
	case name == "_tickets":
		return target{kind: targetTickets, name: name}, nil
	case name == "_revocations":
		return target{kind: targetRevocations, name: name}, nil
	case name[0] == '_':
		return target{}, notFound.because("%q is none of the hub's own resources, which are _publish, _channels and _tickets; channels do not begin with _", name)
	case strings.HasSuffix(name, "/"):
		return target{kind: targetBeneath, name: name}, nil
	}
	return target{kind: targetChannel, name: name}, nil
}

// Errors of parseTarget.
var (
	errPathEscape  = badPath.because("the path has a malformed percent-encoding")
	errPathUnclean = badPath.because("the path has an empty, . or .. segment; write it without")
	errPathSlash   = badPath.because("the path has an encoded slash; segments of a channel are split by plain slashes")
)
