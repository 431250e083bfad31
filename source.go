package evstream

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Source says where a Caddyfile declares something, for errors that are found only
// when the configuration is loaded, also one that comes over the admin API. It
// configures nothing: the Caddyfile's adapter writes it.
type Source struct {
	// The file and the line of a block. Default: none.
	At string `json:"at,omitempty"`

	// The file and the line of each {env.NAME} and {file./abs/path} in the block, by
	// the placeholder. Default: none.
	Placeholders map[string]string `json:"placeholders,omitempty"`
}

// sourceOf returns where the block is whose first token is the current one of d, which
// is also its only one that stays.
func sourceOf(d *caddyfile.Dispenser) *Source {
	s := &Source{At: position(d)}
	for d.Reset(); d.Next(); {
		for _, placeholder := range knownPlaceholder.FindAllString(d.Val(), -1) {
			if s.Placeholders == nil {
				s.Placeholders = make(map[string]string)
			}
			if _, ok := s.Placeholders[placeholder]; !ok {
				s.Placeholders[placeholder] = position(d)
			}
		}
	}
	d.Reset()
	d.Next()
	return s
}

// position returns the file and line of the current token, and what imports it.
func position(d *caddyfile.Dispenser) string {
	return strings.TrimPrefix(d.Errf("").Error(), ", at ")
}

// locate says in an error where what it is about is declared: the line of a placeholder
// that it names, or else the block.
func (s *Source) locate(err error) error {
	if s == nil || err == nil {
		return err
	}
	text, at := err.Error(), s.At
	for _, placeholder := range slices.Sorted(maps.Keys(s.Placeholders)) {
		if strings.Contains(text, placeholder) {
			at = s.Placeholders[placeholder]
			break
		}
	}
	if at == "" || strings.Contains(text, at) {
		return err
	}
	return fmt.Errorf("%w, at %s", err, at)
}
