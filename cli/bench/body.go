package bench

import (
	"errors"
	"fmt"
	"math"
)

// body decodes the body of an answer, in the pieces in which it is read: in chunks (RFC
// 9112, section 7.1), so many bytes, or until the connection ends.
type body struct {
	chunked bool
	state   chunkState
	digits  bool  // the size has one
	left    int64 // of the chunk, or of all, -1 for no end; while a size is read, that
}

type chunkState uint8

const (
	inSize chunkState = iota
	inExtension
	inData
	afterData
)

// errEnded is the error after the last chunk: the server has ended the answer.
var errEnded = errors.New("the server ended the stream")

// next returns the data that b begins with, and what follows. The data counts with an
// error, too.
func (c *body) next(b []byte) (data, rest []byte, err error) {
	switch {
	case c.chunked:
		return c.chunk(b)
	case c.left < 0:
		return b, nil, nil
	}
	n := min(int64(len(b)), c.left)
	if c.left -= n; c.left == 0 {
		err = errEnded
	}
	return b[:n], nil, err
}

func (c *body) chunk(b []byte) (data, rest []byte, err error) {
	for i, char := range b {
		switch c.state {
		case inData:
			n := int(min(int64(len(b)-i), c.left))
			if c.left -= int64(n); c.left == 0 {
				c.state = afterData
			}
			return b[i : i+n], b[i+n:], nil
		case afterData:
			switch char {
			case '\r':
			case '\n':
				c.state, c.digits = inSize, false
			default:
				return nil, nil, fmt.Errorf("a chunk is longer than it says: %q follows it", char)
			}
		case inSize, inExtension:
			switch digit, ok := hexDigit(char); {
			case char == '\n' && !c.digits:
				return nil, nil, errors.New("a chunk has no size")
			case char == '\n' && c.left == 0:
				return nil, nil, errEnded
			case char == '\n':
				c.state = inData
			case c.state == inExtension, char == '\r':
			case char == ';' || char == ' ' || char == '\t':
				c.state = inExtension
			case !ok || c.left > math.MaxInt64>>8:
				return nil, nil, fmt.Errorf("the size of a chunk has %q", char)
			default:
				c.left, c.digits = c.left<<4|int64(digit), true
			}
		}
	}
	return nil, nil, nil
}

// hexDigit is the value of a digit, of either case.
func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
