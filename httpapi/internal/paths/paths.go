// Package paths finds what a request path names beneath a mount, as Caddy compares
// paths.
package paths

import (
	"net/url"
	"path"
	"strings"

	"github.com/evstream/caddy-evstream/problem"
)

// Clean resolves "." and "..", merges slashes, and keeps a slash at the end,
// as Caddy does before it compares a path.
func Clean(p string) string {
	cleaned := path.Clean(p)
	if cleaned != "/" && strings.HasSuffix(p, "/") {
		cleaned += "/"
	}
	return cleaned
}

// Within reports whether a decoded path lies beneath a mount, as the path matcher of
// Caddy compares.
func Within(mount, p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	p = Clean(strings.ToLower(p))
	rest, ok := strings.CutPrefix(p, strings.ToLower(mount))
	return ok && (rest == "" || rest[0] == '/')
}

// Cut removes the segments of mount from an escaped path. What is left
// has no leading slash.
func Cut(mount, escaped string) (string, error) {
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

// Decode percent-decodes each segment once. A slash at the end stays.
func Decode(rest string) (string, error) {
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

// Errors of Cut and Decode.
var (
	errPathEscape  = problem.BadPath.Because("the path has a malformed percent-encoding")
	errPathUnclean = problem.BadPath.Because("the path has an empty, . or .. segment; write it without")
	errPathSlash   = problem.BadPath.Because("the path has an encoded slash; segments of a channel are split by plain slashes")
)
