package grip

import "bytes"

// whole is text with what it lacks so that the event which is written after it is not taken
// for a part of its last line, or of its last event.
func whole(text []byte) []byte {
	within, line := false, false // an event; a line
	for rest := text; len(rest) > 0; {
		i := bytes.IndexAny(rest, "\r\n")
		if line = i < 0; line {
			i = len(rest)
		}
		switch {
		case i == 0:
			within = false
		case rest[0] != ':':
			within = true
		}
		switch rest = rest[i:]; {
		case bytes.HasPrefix(rest, []byte("\r\n")):
			rest = rest[2:]
		case len(rest) > 0:
			rest = rest[1:]
		}
	}
	switch {
	case within && (line || bytes.HasSuffix(text, []byte("\r"))): // "\r\n" is the end of one line
		return append(bytes.Clone(text), "\n\n"...)
	case within || line:
		return append(bytes.Clone(text), '\n')
	}
	return text
}
