package h2front

import (
	"slices"

	"golang.org/x/net/http2/hpack"
)

const (
	// tableSize is the size of the dynamic table of HPACK (RFC 7541) that servers allow.
	tableSize = 4096
	// maxString is the longest string of a header that is followed. No table has a longer
	// one than tableSize.
	maxString = 16 << 10
	// firstDynamic is the index of the newest entry of a dynamic table.
	firstDynamic = 62
	// literalIndexed begins a field with a new name that becomes an entry (section 6.2.1).
	literalIndexed = 0x40
)

// table follows the dynamic table that the client makes its header blocks with, so that
// the next server can be given it.
type table struct {
	decoder *hpack.Decoder // nil if the table cannot be followed any more

	// The frame that is read.
	padded bool // the next byte says how long the padding is
	skip   int  // bytes before the fragment of the block
	pad    int  // bytes after it
	left   int  // bytes of the frame
	last   bool // the block ends with it
}

func newTable() *table {
	t := &table{decoder: hpack.NewDecoder(tableSize, nil)}
	t.decoder.SetEmitEnabled(false)
	t.decoder.SetEmitFunc(func(hpack.HeaderField) {})
	t.decoder.SetMaxStringLength(maxString)
	return t
}

// frame begins a frame with a header block or a part of one.
func (t *table) frame(h head) {
	t.padded, t.skip, t.pad, t.left, t.last = false, 0, 0, h.length, h.has(flagEndHeaders)
	if h.kind == frameHeaders {
		t.padded = h.has(flagPadded)
		if h.has(flagPriority) {
			t.skip = prioritySize
		}
	}
	if t.left == 0 {
		t.end()
	}
}

// payload takes over bytes of the frame.
func (t *table) payload(p []byte) {
	if t.decoder == nil || len(p) == 0 {
		return
	}
	if t.padded {
		t.padded, t.pad = false, int(p[0])
		t.left--
		p = p[1:]
	}
	skip := min(t.skip, len(p))
	t.skip -= skip
	t.left -= skip
	p = p[skip:]
	fragment := p[:max(0, min(len(p), t.left-t.pad))]
	t.left -= len(p)
	if _, err := t.decoder.Write(fragment); err != nil {
		t.decoder = nil
		return
	}
	if t.left <= 0 {
		t.end()
	}
}

// end ends the frame.
func (t *table) end() {
	if t.last && t.decoder != nil && t.decoder.Close() != nil {
		t.decoder = nil
	}
}

// block returns the header block that gives the table to a decoder that has none, or nil
// if there is nothing to give, and ok. It is not that of a request: its first field has a
// name that HTTP/2 forbids (RFC 9113, section 8.2.1). The table is not to be used after it.
//
// If the client keeps less of the table than tableSize, the decoder has more of it: entries are
// counted from the newest one, so that the client does not refer to what only that has.
func (t *table) block() (block []byte, ok bool) {
	if t.decoder == nil {
		return nil, false
	}
	var entries []hpack.HeaderField
	t.decoder.SetEmitEnabled(true)
	t.decoder.SetEmitFunc(func(f hpack.HeaderField) { entries = append(entries, f) })
	for t.has(firstDynamic + len(entries)) {
	}
	t.decoder = nil
	if len(entries) == 0 {
		return nil, true
	}
	block = append(block, 0, 1, 'A', 0)          // a literal that is not indexed
	for _, e := range slices.Backward(entries) { // the oldest comes first
		block = append(block, literalIndexed)
		block = appendString(appendString(block, e.Name), e.Value)
	}
	return slices.Clip(block), true
}

// has reports whether the table has an entry, and emits it.
func (t *table) has(index int) bool {
	_, err := t.decoder.Write(appendInteger(nil, 0x80, uint64(index)))
	return err == nil
}

// appendInteger appends an integer whose first byte has 7 bits of it, and mark before them
// (RFC 7541, section 5.1).
func appendInteger(b []byte, mark byte, i uint64) []byte {
	const most = 1<<7 - 1
	if i < most {
		return append(b, mark|byte(i))
	}
	b = append(b, mark|byte(most))
	for i -= most; i >= 0x80; i >>= 7 {
		b = append(b, byte(i)|0x80)
	}
	return append(b, byte(i))
}

// appendString appends a string literal (RFC 7541, section 5.2).
func appendString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInteger(b, 0x80, n), s)
	}
	return append(appendInteger(b, 0, uint64(len(s))), s...)
}
