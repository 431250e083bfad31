package broker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// Filter says who gets an event. It is kept with the event, and judged whenever one of
// its readers comes to it: live and in a replay alike. It must not be modified once it
// was published.
//
// A term is "session:" and the id of a session, or one that the reader's Audience knows.
type Filter struct {
	To     []string // who is one of these gets it; none is everybody
	Except []string // who is one of these does not
}

// MaxFilter bounds the terms of a filter, and MaxTerm the bytes of each.
const (
	MaxFilter = 16
	MaxTerm   = 512
)

// ErrFilter is the error of an operation whose filter is over a bound.
var ErrFilter = errkind.New("bad-event", "", "too many terms, or one that is too long, say who gets the event")

// Audience says who a reader is. Its method may be called at any time, with locks held,
// so it must not block nor call the broker.
type Audience interface {
	// Is reports whether the reader is one of those that a term names.
	Is(term string) bool
}

const sessionTerm = "session:"

// check reports why f cannot be kept.
func (f *Filter) check() error {
	if f == nil {
		return nil
	}
	if n := len(f.To) + len(f.Except); n > MaxFilter {
		return fmt.Errorf("%w: %d terms, at most %d are allowed", ErrFilter, n, MaxFilter)
	}
	for _, terms := range [][]string{f.To, f.Except} {
		for _, term := range terms {
			if len(term) > MaxTerm {
				return fmt.Errorf("%w: one of %d bytes, at most %d are allowed", ErrFilter, len(term), MaxTerm)
			}
		}
	}
	return nil
}

// passes reports whether s gets events with the filter f.
func (s *Subscription) passes(f *Filter) bool {
	return !slices.ContainsFunc(f.Except, s.is) && (len(f.To) == 0 || slices.ContainsFunc(f.To, s.is))
}

func (s *Subscription) is(term string) bool {
	if id, ok := strings.CutPrefix(term, sessionTerm); ok {
		return id == s.id && id != ""
	}
	return s.audience != nil && s.audience.Is(term)
}

// clone is f with copies of its terms, which may be parts of a request.
func (f *Filter) clone() *Filter {
	if f == nil {
		return nil
	}
	own := &Filter{To: slices.Clone(f.To), Except: slices.Clone(f.Except)}
	for _, terms := range [][]string{own.To, own.Except} {
		for i := range terms {
			terms[i] = strings.Clone(terms[i])
		}
	}
	return own
}

// size is about the memory of f.
func (f *Filter) size() (n int) {
	if f == nil {
		return 0
	}
	n = 48
	for _, terms := range [][]string{f.To, f.Except} {
		for _, term := range terms {
			n += 16 + len(term)
		}
	}
	return n
}

// spell calls field with all that distinguishes f from another filter.
func (f *Filter) spell(field func([]byte)) {
	if f == nil {
		return
	}
	for _, terms := range [][]string{f.To, f.Except} {
		field([]byte{byte(len(terms))})
		for _, term := range terms {
			field([]byte(term))
		}
	}
}
