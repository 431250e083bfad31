// Package accept reads the header Accept (RFC 9110, section 12.5.1).
package accept

import (
	"strings"
)

// Types is what a client accepts. Stream is false if it prefers JSON; */*
// prefers a stream.
type Types struct{ Stream, JSON bool }

// Parse reads the lines of Accept. Without any, anything goes.
func Parse(accept []string) Types {
	if len(accept) == 0 {
		return Types{Stream: true, JSON: true}
	}
	stream := weigh(accept, "text/event-stream")
	json := weigh(accept, "application/json")
	return Types{
		Stream: stream.q > 0 && !json.preferredTo(stream),
		JSON:   json.q > 0,
	}
}

// weight is how much a client wants a media type: by quality, then by how
// exactly it was asked for.
type weight struct{ q, exact int }

func (a weight) preferredTo(b weight) bool {
	return a.q > b.q || a.q == b.q && a.exact > b.exact
}

// weigh finds the most exact range that takes in a media type.
func weigh(accept []string, media string) weight {
	kind, _, _ := strings.Cut(media, "/")
	var found weight
	for _, line := range accept {
		for element := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(element, ";")
			exact := 0
			switch name = strings.ToLower(strings.TrimSpace(name)); name {
			case media:
				exact = 3
			case kind + "/*":
				exact = 2
			case "*/*":
				exact = 1
			}
			if exact > found.exact {
				found = weight{q: quality(params), exact: exact}
			}
		}
	}
	return found
}

// quality parses q=, in thousandths. A malformed quality counts as 1.
func quality(params string) int {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		whole, fraction, _ := strings.Cut(value, ".")
		if whole != "0" {
			return 1000
		}
		q := 0
		for i := range 3 {
			q *= 10
			if i < len(fraction) && fraction[i] >= '0' && fraction[i] <= '9' {
				q += int(fraction[i] - '0')
			}
		}
		return q
	}
	return 1000
}
