package stream

import "strconv"

// chunk is a chunk of the body of a detached answer (RFC 9112, section 7.1), or
// what is left of it, in pieces that are written in order with one system call:
// its size, the frames, the events, and what ends it. The events are the bytes of
// the history that all streams share; nothing is copied to frame them.
type chunk struct {
	pieces [4][]byte
	last   bool               // the body ends after it
	size   [maxChunkSize]byte // memory of the first piece
}

// maxChunkSize is the length of the longest size line: 64 bits, CR, LF.
const maxChunkSize = 16 + 2

var (
	chunkEnd     = []byte("\r\n")
	lastChunkEnd = []byte("\r\n0\r\n\r\n") // the end of a chunk, and the last chunk, which ends the body
	lastChunk    = lastChunkEnd[len(chunkEnd):]
)

// set makes c the chunk of frames and events, of which there must be a byte: a
// chunk without any is the end of the body. last says that the body ends after it.
func (c *chunk) set(frames, events []byte, last bool) {
	size := strconv.AppendUint(c.size[:0], uint64(len(frames)+len(events)), 16)
	c.pieces = [4][]byte{append(size, chunkEnd...), frames, events, chunkEnd}
	if c.last = last; last {
		c.pieces[3] = lastChunkEnd
	}
}

// setLast makes c the last chunk.
func (c *chunk) setLast() { c.pieces, c.last = [4][]byte{3: lastChunk}, true }

// strip leaves what is in c, for a connection that frames it otherwise.
func (c *chunk) strip() { c.pieces[0], c.pieces[3] = nil, nil }

// copyOf makes c what is left of other. The events stay where they are.
func (c *chunk) copyOf(other *chunk) {
	c.pieces, c.last = other.pieces, other.last
	c.pieces[0] = append(c.size[:0], other.pieces[0]...)
}

// clear makes c an empty chunk, of which nothing is left.
func (c *chunk) clear() { c.pieces, c.last = [4][]byte{}, false }

// left returns how many bytes are left.
func (c *chunk) left() (n int) {
	for _, p := range c.pieces {
		n += len(p)
	}
	return n
}

// body returns how many bytes of the body are left, which are those of frames and
// events.
func (c *chunk) body() int { return len(c.pieces[1]) + len(c.pieces[2]) }

// written removes the first n bytes.
func (c *chunk) written(n int) {
	for i := range c.pieces {
		m := min(n, len(c.pieces[i]))
		c.pieces[i] = c.pieces[i][m:]
		n -= m
	}
}
