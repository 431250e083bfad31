package grip

import (
	"fmt"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// ChannelName is the channel of the hub for one of an application: the same, but that
// bytes which the hub has no use for in names are percent-encoded, with "=" for the
// percent sign: "user 1" is "user=201". "=" itself is "=3D".
func ChannelName(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("a channel has no name")
	}
	if !strings.Contains(name, "=") && channel.Check(name) == nil {
		return name, nil
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i, segment := range strings.Split(name, "/") {
		if i > 0 {
			// A slash that would begin or end a name, or an empty segment, is none.
			if last := b.Len(); last == 0 || segment == "" || strings.HasSuffix(b.String(), "=2F") {
				b.WriteString("=2F")
			} else {
				b.WriteByte('/')
			}
		}
		dots := segment == "." || segment == ".."
		for j := range len(segment) {
			c := segment[j]
			keep := c != '=' && (!dots || j > 0) && (i > 0 || j > 0 || c != '_') && channel.Check("a"+string(rune(c))) == nil && c < 0x80
			if keep {
				b.WriteByte(c)
				continue
			}
			b.WriteByte('=')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	encoded := b.String()
	if err := channel.Check(encoded); err != nil {
		return "", fmt.Errorf("the channel %q cannot be named here: %w", clip(name), err)
	}
	return encoded, nil
}
