// Package resp writes commands and reads replies in RESP2, the protocol of
// Redis. It is for replies that are large and many, and only of arrays and bulk
// strings: a reply is received whole, as a Scanner finds its end, and then taken
// apart by a Reply, which copies nothing.
//
// Nothing here is safe for concurrent use.
package resp

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// MaxLen bounds the length of a bulk string and of an array: above it is only
// what is no reply.
const MaxLen = 1 << 30

// ErrSyntax is the error of what is no reply, or another one than was asked for.
var ErrSyntax = errors.New("this is no reply of a Redis server")

// Error is an error that the server has answered with, such as "MOVED 1 host:1".
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

// RedisError makes it an error of go-redis, too.
func (e Error) RedisError() {}

// AppendCommand appends a command to dst.
func AppendCommand(dst []byte, words ...string) []byte {
	dst = appendHead(dst, '*', len(words))
	for _, word := range words {
		dst = appendHead(dst, '$', len(word))
		dst = append(append(dst, word...), "\r\n"...)
	}
	return dst
}

func appendHead(dst []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, kind), int64(n), 10), "\r\n"...)
}

// Scanner finds the end of a reply in what was received so far. The zero value
// is at the beginning of a reply.
type Scanner struct {
	at      int // up to where it was scanned
	missing int // how many parts are missing behind that
}

// Scan reports whether the reply is whole. b is what was received since its
// beginning: each time the same bytes, and maybe more. Its errors are ErrSyntax.
func (s *Scanner) Scan(b []byte) (whole bool, err error) {
	if s.at == 0 {
		s.missing = 1
	}
	for s.missing > 0 {
		end := bytes.IndexByte(b[s.at:], '\n')
		if end < 0 {
			return false, nil
		}
		kind, line := b[s.at], b[s.at:s.at+end]
		next := s.at + end + 1
		switch kind {
		case '$', '*':
			n, err := strconv.Atoi(string(bytes.TrimSuffix(line[1:], []byte("\r"))))
			if err != nil || n > MaxLen {
				return false, ErrSyntax
			}
			switch {
			case n < 0:
			case kind == '*':
				s.missing += n
			case next+n+2 > len(b):
				return false, nil
			default:
				next += n + 2
			}
		case '+', '-', ':':
		default:
			return false, ErrSyntax
		}
		s.at = next
		s.missing--
	}
	return true, nil
}

// Len is the length of the reply, once it is whole.
func (s *Scanner) Len() int { return s.at }

// Reply takes a whole reply apart, from its beginning to its end. Its methods
// return ErrSyntax where something else comes next, and an Error where that is
// an error of the server.
type Reply struct {
	text string
	at   int
}

// NewReply is at the beginning of a reply. What it returns are parts of text.
func NewReply(text string) *Reply { return &Reply{text: text} }

// Offset is how many bytes were read.
func (r *Reply) Offset() int { return r.at }

// head reads the first line of a part: its kind, and what follows that.
func (r *Reply) head() (kind byte, line string, err error) {
	end := strings.IndexByte(r.text[r.at:], '\n')
	if end < 2 || r.text[r.at+end-1] != '\r' {
		return 0, "", ErrSyntax
	}
	kind, line = r.text[r.at], r.text[r.at+1:r.at+end-1]
	r.at += end + 1
	if kind == '-' {
		return 0, "", Error(line)
	}
	return kind, line, nil
}

// Array reads the head of an array and returns its length; 0 if it is null.
func (r *Reply) Array() (int, error) {
	kind, line, err := r.head()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(line)
	if kind != '*' || err != nil || n > MaxLen {
		return 0, ErrSyntax
	}
	return max(n, 0), nil
}

// ArrayOf reads the head of an array, which must have that length.
func (r *Reply) ArrayOf(length int) error {
	if n, err := r.Array(); n != length || err != nil {
		return errors.Join(ErrSyntax, err)
	}
	return nil
}

// Bulk reads a bulk string.
func (r *Reply) Bulk() (string, error) {
	kind, line, err := r.head()
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(line)
	if kind != '$' || err != nil || n < 0 || n > len(r.text)-r.at-2 {
		return "", ErrSyntax
	}
	text := r.text[r.at : r.at+n]
	r.at += n + 2
	return text, nil
}
