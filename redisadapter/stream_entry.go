package redisadapter

import (
	"errors"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/resp"
)

// point identifies an entry: its id, and the nonce of its batch, because an id may
// be assigned again after a failover.
type point struct {
	id    broker.ID
	nonce uint64 // see digestWord; 0 if there is none
}

// streamEntry is an entry as it was read from a stream. body points into the
// reply.
type streamEntry struct {
	point
	before point  // its predecessor in the stream
	body   string // in the encoding of codec.go
}

// readEntries reads what XRANGE answers, and adds it to dst.
func readEntries(r *resp.Reply, dst []streamEntry) ([]streamEntry, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	for range n {
		e, err := readEntry(r)
		if err != nil {
			return nil, err
		}
		dst = append(dst, e)
	}
	return dst, nil
}

func readEntry(r *resp.Reply) (e streamEntry, err error) {
	if err := r.ArrayOf(2); err != nil {
		return streamEntry{}, err
	}
	id, err := r.Bulk()
	if err != nil {
		return streamEntry{}, err
	}
	var ok bool
	if e.id, ok = parseID(id); !ok {
		return streamEntry{}, resp.ErrSyntax
	}
	fields, err := r.Array()
	if err != nil {
		return streamEntry{}, err
	}
	for range fields / 2 {
		name, err := r.Bulk()
		if err != nil {
			return streamEntry{}, err
		}
		value, err := r.Bulk()
		if err != nil {
			return streamEntry{}, err
		}
		switch name {
		case "m":
			if e.nonce, e.before, ok = parseChain(value); !ok {
				return streamEntry{}, errChain
			}
		case "e":
			e.body = value
		}
	}
	if e.nonce == 0 || e.body == "" {
		return streamEntry{}, errChain
	}
	return e, nil
}

var errChain = errors.New("a stream of the log has an entry that no node has written")

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

// parseID is like broker.ParseID, but faster: it accepts leading zeros.
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
