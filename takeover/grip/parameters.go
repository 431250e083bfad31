package grip

import (
	"fmt"
	"strings"

	"github.com/evstream/caddy-evstream/problem"
)

// parameter is one of the parts of a header's element: a name and a value, or a value
// alone, as the first one mostly is.
type parameter struct{ name, value string }

// element is what stands between two commas of a header: its parts, which semicolons
// split.
type element []parameter

// get returns the value of a parameter, and whether it is there.
func (e element) get(name string) (string, bool) {
	for _, p := range e[1:] {
		if strings.EqualFold(p.name, name) {
			return p.value, true
		}
	}
	return "", false
}

// readList reads the lines of a header that is a list.
func readList(lines []string) (list []element, err error) {
	for _, line := range lines {
		parts, err := split(line, ',')
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if part == "" {
				continue // an empty element of a list (RFC 9110, section 5.6.1)
			}
			e, err := readElement(part)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// readElement reads one element. Its first part is taken as it is.
func readElement(s string) (element, error) {
	parts, err := split(s, ';')
	if err != nil {
		return nil, err
	}
	e := element{{value: parts[0]}}
	for _, part := range parts[1:] {
		if part == "" {
			continue
		}
		p, err := readParameter(part)
		if err != nil {
			return nil, err
		}
		e = append(e, p)
	}
	return e, nil
}

// readParameter reads NAME=VALUE, where the value may be a quoted string.
func readParameter(s string) (parameter, error) {
	name, value, _ := strings.Cut(s, "=")
	p := parameter{name: strings.TrimSpace(name), value: strings.TrimSpace(value)}
	if quoted, ok := strings.CutPrefix(p.value, `"`); ok {
		var b strings.Builder
		for i := 0; i < len(quoted); i++ {
			switch c := quoted[i]; {
			case c == '\\' && i+1 < len(quoted):
				i++
				b.WriteByte(quoted[i])
			case c == '"':
				if strings.TrimSpace(quoted[i+1:]) != "" {
					return p, fmt.Errorf("%q has text after its quotes", clip(s))
				}
				p.value = b.String()
				return p, nil
			default:
				b.WriteByte(c)
			}
		}
		return p, fmt.Errorf("%q has a quote that does not end", clip(s))
	}
	return p, nil
}

// split splits s at a separator that stands outside of quotes and of <>, and trims the
// parts.
func split(s string, separator byte) (parts []string, err error) {
	start, quoted, angled := 0, false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angled = true
		case c == '>':
			angled = false
		case c == separator && !angled:
			parts = append(parts, strings.Trim(s[start:i], " \t"))
			start = i + 1
		}
	}
	if quoted {
		return nil, fmt.Errorf("%q has a quote that does not end", clip(s))
	}
	return append(parts, strings.Trim(s[start:], " \t")), nil
}

// clip shortens what is quoted in an error.
func clip(s string) string { return problem.ClipTo(s, 100) }
