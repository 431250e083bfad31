package grip

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// The filters of a channel. Those of contentFilters change what is sent, the others say
// who gets it.
const (
	skipSelf   = "skip-self"
	skipUsers  = "skip-users"
	requireSub = "require-sub"
	buildID    = "build-id"
	varSubst   = "var-subst"
)

var filters = []string{skipSelf, skipUsers, requireSub, buildID, varSubst}

func isFilter(name string) bool { return slices.Contains(filters, name) }

// contentFilters are those of list that change what is sent, in order.
func contentFilters(list []string) (content []string) {
	for _, f := range list {
		if f == buildID || f == varSubst {
			content = append(content, f)
		}
	}
	return content
}

func (c *Channel) has(filter string) bool { return slices.Contains(c.Filters, filter) }

// Entries of Grip-Set-Meta that mean something here.
const (
	metaUser     = "user"
	metaFormat   = "id_format"
	metaEncoding = "id_encoding"
)

// What an item says of who gets it is kept in the log as terms of its events' filter,
// which each stream judges for itself. A term is termPrefix, one of the words, the
// channel, and what the word needs, with spaces between. Readers that are no GRIP streams
// know none of them.
const (
	termPrefix  = "grip "
	termSender  = "sender"  // except: streams of the user who sent it, with skip-self
	termUsers   = "users"   // except: streams of these users, with skip-users
	termNeeds   = "needs"   // except: streams that do not read this channel, too, with require-sub
	termPlain   = "plain"   // except: streams with content filters
	termItem    = "item"    // except: nobody; the id and the previous id of the item
	termRest    = "rest"    // except: nobody; the id of the item whose first event came before
	termAny     = "any"     // except: nobody; content filters change it, whichever they are
	termContent = "content" // to: streams with exactly these content filters
	termClose   = "close"   // to: nobody; streams end
	termHint    = "hint"    // to: nobody; streams ask the application again
)

func termOf(word, channel, what string) string {
	return termPrefix + word + " " + channel + " " + what
}

// subscriptions are what one stream reads. They are immutable.
type subscriptions struct {
	byName map[string]*Channel // by the hub's name
	meta   map[string]string
}

func newSubscriptions(i *Instruct) *subscriptions {
	s := &subscriptions{byName: make(map[string]*Channel, len(i.Channels)), meta: i.Meta}
	for n := range i.Channels {
		name, _ := ChannelName(i.Channels[n].Name) // was checked
		s.byName[name] = &i.Channels[n]
	}
	return s
}

// names are the channels of the hub, in no order.
func (s *subscriptions) names() (names []string) {
	for name := range s.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// is reports whether the stream is one of those that a term names.
func (s *subscriptions) is(word, name, what string) bool {
	c := s.byName[name]
	if c == nil {
		return false
	}
	user := s.meta[metaUser]
	switch word {
	case termSender:
		return user != "" && user == what && c.has(skipSelf)
	case termUsers:
		return user != "" && c.has(skipUsers) && slices.Contains(strings.Split(what, ","), user)
	case termNeeds:
		_, reads := s.byName[what]
		return !reads && c.has(requireSub)
	case termPlain:
		return len(contentFilters(c.Filters)) > 0
	case termContent:
		return strings.Join(contentFilters(c.Filters), ",") == what
	}
	return false
}

// audience returns the filter of an item's events.
func (i *item) audience() (*broker.Filter, error) {
	f := &broker.Filter{}
	if i.action == actionClose || i.action == actionHint {
		word := termClose
		if i.action == actionHint {
			word = termHint
		}
		f.To = append(f.To, termOf(word, i.channel, ""))
	} else if i.hasFilters {
		if len(i.filters) > 0 {
			f.To = append(f.To, termOf(termContent, i.channel, strings.Join(i.filters, ",")))
		} else {
			f.Except = append(f.Except, termOf(termPlain, i.channel, ""))
		}
	} else if i.hasPercent() {
		f.Except = append(f.Except, termOf(termAny, i.channel, ""))
	}
	if sender := i.meta["sender"]; sender != "" {
		f.Except = append(f.Except, termOf(termSender, i.channel, sender))
	}
	if needs := i.meta["require_sub"]; needs != "" {
		name, err := ChannelName(needs)
		if err != nil {
			return nil, fmt.Errorf("require_sub: %w", err)
		}
		f.Except = append(f.Except, termOf(termNeeds, i.channel, name))
	}
	if i.id != "" {
		f.Except = append(f.Except, itemTerm(i.channel, i.id, i.prevID, i.hasPrev))
	}
	f.Except = append(f.Except, usersTerms(i.channel, i.meta["skip_users"])...)
	if len(f.To)+len(f.Except) > broker.MaxFilter {
		return nil, fmt.Errorf("skip_users has too many users: about %d bytes of names are allowed", (broker.MaxFilter-5)*broker.MaxTerm/2)
	}
	for _, term := range slices.Concat(f.To, f.Except) {
		if len(term) > broker.MaxTerm {
			return nil, fmt.Errorf("the names of channel and users in meta are too long: %d bytes together, at most %d are allowed", len(term), broker.MaxTerm)
		}
	}
	if len(f.To) == 0 && len(f.Except) == 0 {
		return nil, nil
	}
	return f, nil
}

// hasPercent reports whether content filters would change an event of the item.
func (i *item) hasPercent() bool {
	return slices.ContainsFunc(i.events, func(e sse.Event) bool {
		return strings.Contains(e.ID, "%") || strings.Contains(e.Type, "%") || bytes.IndexByte(e.Data, '%') >= 0
	})
}

// isTemplate reports whether content filters change an event with the filter f.
func isTemplate(f *broker.Filter) bool {
	if f == nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(f.To, f.Except), func(term string) bool {
		word, _, _, _ := cutTerm(term)
		return word == termContent || word == termAny
	})
}

// usersTerms packs names into as few terms as they need.
func usersTerms(channel, list string) (terms []string) {
	term := ""
	for user := range strings.SplitSeq(list, ",") {
		if user = strings.TrimSpace(user); user == "" {
			continue
		}
		if term != "" && len(term)+1+len(user) <= broker.MaxTerm {
			term += "," + user
			continue
		}
		if term != "" {
			terms = append(terms, term)
		}
		term = termOf(termUsers, channel, user)
	}
	if term != "" {
		terms = append(terms, term)
	}
	return terms
}

// itemTerm tells streams the ids of an item. "\n" is in no id.
func itemTerm(channel, id, prev string, hasPrev bool) string {
	what := id
	if hasPrev {
		what += "\n" + prev
	}
	return termOf(termItem, channel, what)
}

// rest is the filter of the events of an item that follow its first, whose filter is f.
func (i *item) rest(f *broker.Filter) *broker.Filter {
	rest := &broker.Filter{To: f.To, Except: slices.Clone(f.Except)}
	rest.Except[slices.Index(rest.Except, itemTerm(i.channel, i.id, i.prevID, i.hasPrev))] = termOf(termRest, i.channel, i.id)
	return rest
}

// ids are what an event says of its item.
type ids struct {
	id, prev string // "" for none
	hasPrev  bool
	rest     bool // it is not the item's first event
}

// idsOf finds the ids of an item in the filter of one of its events.
func idsOf(f *broker.Filter) (found ids) {
	if f == nil {
		return found
	}
	for _, term := range f.Except {
		switch word, _, what, _ := cutTerm(term); word {
		case termItem:
			found.id, found.prev, found.hasPrev = strings.Cut(what, "\n")
			return found
		case termRest:
			return ids{id: what, rest: true}
		}
	}
	return found
}

// cutTerm takes a term apart.
func cutTerm(term string) (word, channel, what string, ok bool) {
	rest, ok := strings.CutPrefix(term, termPrefix)
	if !ok {
		return "", "", "", false
	}
	word, rest, _ = strings.Cut(rest, " ")
	channel, what, _ = strings.Cut(rest, " ")
	return word, channel, what, true
}
