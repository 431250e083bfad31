package sse

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// AppendEvent appends e to dst as one block: its id, event and retry lines
// where it has them, one data line for each line of its data, and the blank
// line that makes a reader dispatch it. CR LF, CR and LF all end a line of
// data. The bytes are always the same for the same event, with one space after
// each colon.
//
// e must be valid (see Validate): what follows a line end in its Type or ID would be
// read as a field of its own.
//
// It allocates only to grow dst, keeps nothing of e, and is safe for concurrent
// use as long as dst is not shared. The format is that of the WHATWG HTML
// standard, §9.2.5.
func AppendEvent(dst []byte, e *Event) []byte {
	// Never more than the block takes, so that a dst with room for the block
	// is never replaced.
	dst = slices.Grow(dst, len("data: \n\n")+len(e.Data)+len(e.ID))

	if e.ID != "" {
		dst = append(dst, "id: "...)
		dst = append(dst, e.ID...)
		dst = append(dst, '\n')
	}
	if e.Type != "" && e.Type != "message" {
		dst = append(dst, "event: "...)
		dst = append(dst, e.Type...)
		dst = append(dst, '\n')
	}
	if e.Retry > 0 {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, e.Retry, 10)
		dst = append(dst, '\n')
	}
	dst = appendData(dst, e.Data)
	return append(dst, '\n')
}

// appendData appends one data line for each line of data.
func appendData(dst, data []byte) []byte {
	// The next LF and the next CR are remembered between lines: data with many of
	// one and none of the other would otherwise be searched to its end in each.
	lf, cr := indexFrom(data, 0, '\n'), indexFrom(data, 0, '\r')
	for start := 0; ; {
		end := min(lf, cr)
		dst = append(dst, "data: "...)
		dst = append(dst, data[start:end]...)
		dst = append(dst, '\n')
		if end == len(data) {
			return dst
		}
		start = end + 1
		if end == cr {
			if start < len(data) && data[start] == '\n' {
				start++
			}
			cr = indexFrom(data, start, '\r')
		}
		if lf < start {
			lf = indexFrom(data, start, '\n')
		}
	}
}

// indexFrom is the index of the first c in data at or after from, or the length of
// data.
func indexFrom(data []byte, from int, c byte) int {
	if i := bytes.IndexByte(data[from:], c); i >= 0 {
		return from + i
	}
	return len(data)
}

// AppendComment appends text to dst as a comment, which readers skip: one
// comment line for each line of text. It may stand before any line, and belongs
// to the block that follows. No blank line ends it: some readers take a block
// without data for an event.
//
// It allocates only to grow dst, and is safe for concurrent use as long as dst
// is not shared.
func AppendComment(dst []byte, text string) []byte {
	for {
		i := strings.IndexAny(text, "\r\n")
		if i < 0 {
			dst = append(dst, ": "...)
			dst = append(dst, text...)
			return append(dst, '\n')
		}
		dst = append(dst, ": "...)
		dst = append(dst, text[:i]...)
		dst = append(dst, '\n')
		if strings.HasPrefix(text[i:], "\r\n") {
			i++
		}
		text = text[i+1:]
	}
}

// AppendWithoutID appends a block made by AppendEvent to dst, but for its id
// line: for a reader that gets the event and has to keep its last event id.
//
// It allocates only to grow dst, does not modify block, and is safe for
// concurrent use as long as dst is not shared.
func AppendWithoutID(dst, block []byte) []byte {
	if bytes.HasPrefix(block, idPrefix) {
		block = block[bytes.IndexByte(block, '\n')+1:]
	}
	return append(dst, block...)
}
