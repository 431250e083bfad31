package grip

import (
	"fmt"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// ChannelName is the channel of the hub for one of an application: the same, but that each
// segment which the hub has no use for is escaped: see channel.Escape. "user 1" is
// "user~201". A slash that would begin or end a name, or an empty segment, is "~2F".
func ChannelName(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("a channel has no name")
	}
	const slash = "~2F"
	var encoded string
	for i, segment := range strings.Split(name, "/") {
		switch {
		case i == 0:
		case encoded == "" || segment == "" || strings.HasSuffix(encoded, slash):
			encoded += slash
		default:
			encoded += "/"
		}
		if segment != "" && (strings.Contains(segment, "~") || channel.Check(encoded+segment) != nil) {
			segment = channel.Escape(segment)
		}
		encoded += segment
	}
	if err := channel.Check(encoded); err != nil {
		return "", fmt.Errorf("the channel %q cannot be named here: %w", clip(name), err)
	}
	return encoded, nil
}
