package channel

import "strings"

// Escape makes one segment of a channel's name of any text that is not empty: what cannot
// be in one is ~ and two hexadecimal digits for each byte, and so is ~ itself. Different
// texts become different segments. A segment that is the first of a name does not belong
// to the hub, and none is a relative path.
func Escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c != '~' && c < 0x80 && Check(string(c)) == nil || c == '.' && strings.Trim(s, ".") != "" || c == '_' && i > 0
		if plain {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('~')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
