package query

import (
	"fmt"
	"slices"
	"strings"
)

// Request is a kind of request: what it does with which resource.
type Request uint32

// The kinds of requests.
const (
	Stream Request = 1 << iota
	Poll
	Info    // of one channel
	Value   // reading it
	List    // of channels
	Revoked // list of revocations

	Publish // to one channel, or beneath it
	Batch   // publish to channels that the body names
	Purge
	Put // a value
	Patch
	Remove
	Ticket
	Session  // describing it
	Sessions // listing them
	End      // of a session
	Send     // to a session
	Join
	Leave
	Revoke
	Lift       // a revocation
	Present    // who is in a channel
	SetPresent // the caller's own metadata there
	Stop       // a recorded answer

	reads = Stream | Poll | Info | Value
)

// what says what a request of that kind does.
var what = map[Request]string{
	Stream: "reading a stream", Poll: "polling", Info: "asking for a channel's document", Value: "reading a value",
	List: "listing channels", Revoked: "listing revocations", Publish: "publishing", Batch: "publishing to _publish",
	Purge: "purging a history", Put: "setting a value", Patch: "changing a value", Remove: "removing a value",
	Session: "describing a session", Sessions: "listing sessions", End: "ending a session", Send: "sending to a session",
	Join: "joining a channel", Leave: "leaving a channel",
	Ticket: "asking for a ticket", Revoke: "revoking", Lift: "lifting a revocation",
	Stop: "stopping a recorded answer", Present: "asking who is in a channel", SetPresent: "setting one's metadata in a channel",
}

// parameters are the parameters and the requests that they have a meaning for. A name
// that is new is added here. The spellings of isCursor are beside them.
var parameters = map[string]Request{
	"after":        List | Revoked | Sessions | Present,
	"as":           Stream,
	"channel":      Stream | Poll | Sessions,
	"close":        Publish,
	"envelope":     Stream | Poll, // of a poll each event has its channel anyway
	"event":        Stream | Poll | Publish | Send,
	"evs_preamble": Stream | Poll,
	"except":       Publish,
	"history":      Purge | Remove, // which it makes a Purge
	"id":           Publish,
	"incr":         Patch,
	"info":         Info,
	"last":         Stream | Poll | Join,
	ownCursor:      Stream | Poll | Join,
	"limit":        List | Revoked | Sessions | Present,
	"named":        Stream,
	"open":         Stream | Poll,
	"padding":      Stream | Poll,
	"poll":         reads,
	"prefix":       List,
	"presence":     Stream,
	"raw":          Stream,
	"reason":       End,
	"retry":        Publish | Send,
	"session":      Put | Patch | Remove | SetPresent,
	"since":        Stream | Poll | Join,
	"stop":         Stop | Remove, // which it makes a Stop
	"timeout":      Poll,
	"to":           Publish,
	"token":        Lift,
	"user":         Lift | Sessions,
}

// everywhere are names that have a meaning where Accepts.Also has them.
var everywhere = []string{"broker", "ticket"}

// Reserved reports whether a name is the hub's own, so that nothing else can be called so.
// Those of requests that no page has in the URL of a stream are not.
func Reserved(name string) bool {
	m := parameters[name]
	return m&^(Revoked|Revoke|Lift|Sessions|End) != 0 || isCursor(name) || slices.Contains(everywhere, name)
}

// Names returns the parameters that have a meaning of their own, sorted.
func Names() []string {
	names := append([]string{"evs_last_event_id", "lastEventId"}, everywhere...)
	for name := range parameters {
		if Reserved(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Accepts says which parameters a handler accepts beside those that have a meaning. Names
// that begin with "_" are for anybody.
type Accepts struct {
	Also   []string // have a meaning for every request
	Ignore []string // are those of others: names, and beginnings that end in "*"
}

// CheckIgnore reports the first of names that Accepts.Ignore cannot have.
func CheckIgnore(names []string) error {
	for _, name := range names {
		if stem, star := strings.CutSuffix(name, "*"); stem == "" || strings.ContainsAny(stem, "*&=# ") {
			return fmt.Errorf("%q cannot be ignored: write the name of a parameter, or a beginning with a final *, such as utm_*", name)
		} else if !star && Reserved(name) {
			return fmt.Errorf("%q cannot be ignored: the hub has a parameter of that name", name)
		}
	}
	return nil
}

// Check returns an error if q has a parameter without a meaning for such a request: it
// would be a silently different one.
func (a *Accepts) Check(of Request, q Query) error {
	for name := range q.names() {
		if a.knows(of, name) {
			continue
		}
		known := a.known(of)
		text := fmt.Sprintf("%q has no meaning when %s", clip(name), what[of])
		if near := Near(name, known); near != "" {
			text += " (did you mean " + near + "?)"
		}
		if len(known) == 0 {
			return errorf("%s, which has no parameters", text)
		}
		return errorf("%s; the parameters here are %s", text, strings.Join(known, ", "))
	}
	return nil
}

// maxIgnored bounds how many names Ignored returns.
const maxIgnored = 20

// Ignored returns the names, clipped and each once, that Check would refuse.
func (a *Accepts) Ignored(of Request, q Query) (ignored []string) {
	for name := range q.names() {
		if name = clip(name); !a.knows(of, name) && len(ignored) < maxIgnored && !slices.Contains(ignored, name) {
			ignored = append(ignored, name)
		}
	}
	return ignored
}

func (a *Accepts) knows(of Request, name string) bool {
	switch {
	case strings.HasPrefix(name, "_"), parameters[name]&of != 0, slices.Contains(a.Also, name):
		return true
	case isCursor(name):
		return parameters[ownCursor]&of != 0
	case Reserved(name):
		return false
	}
	return slices.ContainsFunc(a.Ignore, func(other string) bool {
		stem, star := strings.CutSuffix(other, "*")
		return name == other || star && strings.HasPrefix(name, stem)
	})
}

// known are the names that have a meaning for a request, sorted.
func (a *Accepts) known(of Request) []string {
	names := slices.Clone(a.Also)
	for name, kinds := range parameters {
		if kinds&of != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Near returns the one of names that is spelt almost as name is, or "".
func Near(name string, names []string) (near string) {
	best := 3
	for _, other := range names {
		bound := min(best, 1+len(other)/3)
		if d := distance(strings.ToLower(name), strings.ToLower(other), bound); d < bound {
			near, best = other, d
		}
	}
	return near
}

// distance is how many letters differ, are missing or have changed places with their
// neighbour, as far as it is below bound.
func distance(a, b string, bound int) int {
	if len(a)-len(b) >= bound || len(b)-len(a) >= bound {
		return bound
	}
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
