package grip

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// maxExpanded bounds what a template becomes, in bytes: each of its directives may stand for
// more than it has itself.
const maxExpanded = 2 << 20

// expand replaces the directives of a template: "%%" is "%", and "%X" or "%(NAME)X" is
// what value returns for the letter and the name.
func expand(dst, template []byte, value func(letter byte, name string, named bool) (string, error)) ([]byte, error) {
	for {
		i := bytes.IndexByte(template, '%')
		if i < 0 {
			return append(dst, template...), nil
		}
		dst = append(dst, template[:i]...)
		template = template[i+1:]
		if len(template) == 0 {
			return nil, fmt.Errorf("%% at the end of a template says nothing; a percent sign is %%%%")
		}
		if template[0] == '%' {
			dst, template = append(dst, '%'), template[1:]
			continue
		}
		name, named := "", template[0] == '('
		if named {
			end := bytes.IndexByte(template, ')')
			if end < 0 || end+1 == len(template) {
				return nil, fmt.Errorf("%%( in a template has no end")
			}
			name, template = string(template[1:end]), template[end+1:]
		}
		s, err := value(template[0], name, named)
		if err != nil {
			return nil, err
		}
		if len(dst)+len(s)+len(template) > maxExpanded {
			return nil, fmt.Errorf("a template becomes more than %d bytes", maxExpanded)
		}
		dst, template = append(dst, s...), template[1:]
	}
}

// variables is value of expand for "%(NAME)s".
func variables(of func(name string) (string, bool)) func(byte, string, bool) (string, error) {
	return func(letter byte, name string, named bool) (string, error) {
		if letter != 's' || !named {
			return "", fmt.Errorf("a template has %%(NAME)s and %%%%, not %%%c", letter)
		}
		s, ok := of(name)
		if !ok {
			return "", fmt.Errorf("a template has %%(%s)s, of which nothing is known", clip(name))
		}
		return s, nil
	}
}

// addID is the filter build-id: "%I" is the id that format and the ids of the channels
// make, "%(ID)I" is ID.
func (s *subscriptions) addID(dst, content []byte, lastID func(channel string) (string, bool)) ([]byte, error) {
	return expand(dst, content, func(letter byte, name string, named bool) (string, error) {
		if letter != 'I' {
			return "", fmt.Errorf("content with the filter %s has %%I and %%%%, not %%%c", buildID, letter)
		}
		id := name
		if !named {
			built, err := expand(nil, []byte(s.meta[metaFormat]), variables(lastID))
			if err != nil {
				return "", fmt.Errorf("%s: %w", metaFormat, err)
			}
			id = string(built)
		}
		if s.meta[metaEncoding] == "hex" {
			id = hex.EncodeToString([]byte(id))
		}
		return id, nil
	})
}

// substitute is the filter var-subst: "%(NAME)s" is an entry of Grip-Set-Meta.
func (s *subscriptions) substitute(dst, content []byte) ([]byte, error) {
	return expand(dst, content, variables(func(name string) (string, bool) {
		value, ok := s.meta[name]
		return value, ok
	}))
}
