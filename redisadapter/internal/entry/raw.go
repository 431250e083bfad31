package entry

import (
	"errors"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/resp"
)

// Point identifies an entry: its id, and the nonce of its batch, because an id may
// be assigned again after a failover.
type Point struct {
	ID    broker.ID
	Nonce uint64 // the hash of the random word of the batch; 0 if there is none
}

// Raw is an entry as it was read from a stream. Body points into the reply.
type Raw struct {
	Point
	Before Point        // its predecessor in the stream
	Body   string       // for Decode
	Owner  broker.Owner // in whose share it counts; 0 if it does not say
}

// Read reads what XRANGE answers, and adds it to dst.
func Read(r *resp.Reply, dst []Raw) ([]Raw, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	for range n {
		e, err := readOne(r)
		if err != nil {
			return nil, err
		}
		dst = append(dst, e)
	}
	return dst, nil
}

func readOne(r *resp.Reply) (e Raw, err error) {
	if err := r.ArrayOf(2); err != nil {
		return Raw{}, err
	}
	id, err := r.Bulk()
	if err != nil {
		return Raw{}, err
	}
	var ok bool
	if e.ID, ok = ParseID(id); !ok {
		return Raw{}, resp.ErrSyntax
	}
	fields, err := r.Array()
	if err != nil {
		return Raw{}, err
	}
	for range fields / 2 {
		name, err := r.Bulk()
		if err != nil {
			return Raw{}, err
		}
		value, err := r.Bulk()
		if err != nil {
			return Raw{}, err
		}
		switch name {
		case "m":
			if e.Nonce, e.Before, ok = ParseChain(value); !ok {
				return Raw{}, errChain
			}
		case "e":
			e.Body = value
		case "o":
			owner, _ := strconv.ParseUint(value, 16, 64)
			e.Owner = broker.Owner(owner)
		}
	}
	if e.Nonce == 0 || e.Body == "" {
		return Raw{}, errChain
	}
	return e, nil
}

var errChain = errors.New("a stream of the log has an entry that no node has written")

// ParseChain reads "NONCE ID NONCE".
func ParseChain(m string) (nonce uint64, before Point, ok bool) {
	word, rest, ok := strings.Cut(m, " ")
	if !ok {
		return 0, Point{}, false
	}
	before, ok = ParsePoint(rest)
	return digestWord(word), before, ok
}

// ParsePoint reads "ID NONCE".
func ParsePoint(s string) (m Point, ok bool) {
	id, word, ok := strings.Cut(s, " ")
	if !ok {
		return Point{}, false
	}
	m.ID, ok = ParseID(id)
	m.Nonce = digestWord(word)
	return m, ok
}

// digestWord is the 64-bit FNV-1a hash of a nonce; 0 for "-", which is none.
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

// ParseID is like broker.ParseID, but faster: it accepts leading zeros.
func ParseID(s string) (id broker.ID, ok bool) {
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
