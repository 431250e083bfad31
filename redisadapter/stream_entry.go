package redisadapter

import (
	"errors"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
)

// point is an entry as its successor in a stream names it, and as what a node
// has and what Redis has are compared: its id, and the nonce of its batch.
type point struct {
	id    broker.ID
	nonce uint64 // a digest of the word; 0 where there is none
}

// found is an entry of a stream as it was read. It points into the reply.
type found struct {
	point
	before point  // which entry came before it in its stream
	body   string // in the encoding of codec.go
}

// reply takes a reply of Redis apart.
type reply struct {
	b  string
	at int
}

// serverError is an error that the server has answered with.
type serverError string

func (r serverError) Error() string { return string(r) }

// RedisError makes it a [redis.Error].
func (r serverError) RedisError() {}

// head reads the beginning of a part: its kind, and what stands in its line.
func (r *reply) head() (kind byte, line string, err error) {
	end := strings.IndexByte(r.b[r.at:], '\n')
	if end < 2 || r.b[r.at+end-1] != '\r' {
		return 0, "", errReply
	}
	kind, line = r.b[r.at], r.b[r.at+1:r.at+end-1]
	r.at += end + 1
	if kind == '-' {
		return 0, "", serverError(line)
	}
	return kind, line, nil
}

// array reads the beginning of an array and returns how many parts it has;
// none if it is null.
func (r *reply) array() (int, error) {
	kind, line, err := r.head()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(line)
	if kind != '*' || err != nil {
		return 0, errReply
	}
	return max(n, 0), nil
}

// pair reads the beginning of an array of two.
func (r *reply) pair() error {
	if n, err := r.array(); n != 2 || err != nil {
		return errors.Join(errReply, err)
	}
	return nil
}

// bulk reads a string.
func (r *reply) bulk() (string, error) {
	kind, line, err := r.head()
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(line)
	if kind != '$' || err != nil || n < 0 || r.at+n+2 > len(r.b) {
		return "", errReply
	}
	text := r.b[r.at : r.at+n]
	r.at += n + 2
	return text, nil
}

// entries reads what XRANGE answers, and adds it to dst.
func (r *reply) entries(dst []found) ([]found, error) {
	n, err := r.array()
	if err != nil {
		return nil, err
	}
	for range n {
		e, err := r.entry()
		if err != nil {
			return nil, err
		}
		dst = append(dst, e)
	}
	return dst, nil
}

func (r *reply) entry() (e found, err error) {
	if err := r.pair(); err != nil {
		return found{}, err
	}
	id, err := r.bulk()
	if err != nil {
		return found{}, err
	}
	var ok bool
	if e.id, ok = parseID(id); !ok {
		return found{}, errReply
	}
	fields, err := r.array()
	if err != nil {
		return found{}, err
	}
	for range fields / 2 {
		name, err := r.bulk()
		if err != nil {
			return found{}, err
		}
		value, err := r.bulk()
		if err != nil {
			return found{}, err
		}
		switch name {
		case "m":
			if e.nonce, e.before, ok = parseChain(value); !ok {
				return found{}, errChain
			}
		case "e":
			e.body = value
		}
	}
	if e.nonce == 0 || e.body == "" {
		return found{}, errChain
	}
	return e, nil
}

var errChain = errors.New("a stream of the log has an entry that is none of its own")

// parseChain reads "NONCE ID NONCE".
func parseChain(m string) (nonce uint64, before point, ok bool) {
	word, rest, ok := strings.Cut(m, " ")
	if !ok {
		return 0, point{}, false
	}
	before, ok = parsePoint(rest)
	return digestWord(word), before, ok
}

// parsePoint reads "ID NONCE".
func parsePoint(s string) (m point, ok bool) {
	id, word, ok := strings.Cut(s, " ")
	if !ok {
		return point{}, false
	}
	m.id, ok = parseID(id)
	m.nonce = digestWord(word)
	return m, ok
}

// digestWord is the 64-bit FNV-1a hash of a nonce; 0 is that of none, "-".
func digestWord(word string) uint64 {
	if word == "-" {
		return 0
	}
	h := uint64(14695981039346656037)
	for i := range len(word) {
		h = (h ^ uint64(word[i])) * 1099511628211
	}
	return h
}

// parseID is broker.ParseID, with less looking.
func parseID(s string) (id broker.ID, ok bool) {
	ms, n, ok := strings.Cut(s, "-")
	if !ok {
		return broker.ID{}, false
	}
	if id.Ms, ok = parseNumber(ms); !ok {
		return broker.ID{}, false
	}
	id.N, ok = parseNumber(n)
	return id, ok
}

func parseNumber(s string) (n uint64, ok bool) {
	if s == "" || len(s) > 20 {
		return 0, false
	}
	for i := range len(s) {
		d := uint64(s[i] - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = 10*n + d
	}
	return n, true
}
