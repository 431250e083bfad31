package httpapi

import (
	"strings"
)

// acceptable is what a client accepts. stream is false if it prefers JSON; */*
// prefers a stream.
type acceptable struct{ stream, json bool }

// negotiate reads Accept. Without it, anything goes.
func negotiate(accept []string) acceptable {
	if len(accept) == 0 {
		return acceptable{stream: true, json: true}
	}
	stream := weigh(accept, "text/event-stream")
	json := weigh(accept, "application/json")
	return acceptable{
		stream: stream.q > 0 && !json.preferredTo(stream),
		json:   json.q > 0,
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
